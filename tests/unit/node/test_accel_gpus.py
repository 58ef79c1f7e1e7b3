"""Which of a node's GPUs is started and asked."""

from __future__ import annotations

import pytest

from edgeagent.accel.broker import Broker, BrokerSettings
from edgeagent.accel.broker_state import State
from edgeagent.node.accel_gpus import Gpus


def test_one_that_is_barred_is_neither_started_nor_kept_nor_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[int] = []
    monkeypatch.setattr(Broker, "want", lambda self: wanted.append(self.device))
    first, second = (Broker(BrokerSettings(), "", index) for index in range(2))
    gpus = Gpus((first, second))
    for one in gpus.brokers:
        one.life.state = State.READY
    gpus.keep(one=True)
    assert (wanted, first.is_kept, second.is_kept) == ([0], True, False)
    assert gpus.pick() is first

    first.barred = "draining: rows of its memory wait for a reset"
    gpus.keep(one=True)
    assert (wanted, first.is_kept, second.is_kept) == ([0, 1], False, True)
    assert gpus.pick() is second
    assert gpus.best == (State.READY, second.life.why)
    assert gpus.view()[0]["why"] == first.barred

    second.barred = "draining: critical error 48: its memory needs a reset"
    gpus.want()
    assert wanted == [0, 1]
    assert not gpus.ready
    assert gpus.why_not == f"GPU 0 is {first.barred}; GPU 1 is {second.barred}"
    assert gpus.best == (State.READY, first.barred)
