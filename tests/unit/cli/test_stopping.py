"""A daemon ends in time, whatever still runs in it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgeagent.cli.last_resort import LastResort
from edgeagent.cli.run import _drain, _Stop

HANGS = """
import threading
from edgeagent.cli.last_resort import LastResort
kernel = threading.Thread(target=threading.Event().wait)
kernel.start()
last = LastResort()
last.within({first})
{then}
kernel.join()
"""


@pytest.mark.parametrize(
    ("first", "then"), [(0.01, ""), (3600.0, "last.within(0.01)")], ids=["once", "sooner"]
)
def test_a_process_that_waits_for_a_kernel_is_ended(first: float, then: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS.format(first=first, then=then)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert "ended without waiting" in done.stdout + done.stderr


def test_who_comes_to_his_end_is_left_alone() -> None:
    last = LastResort()
    last.cancel()
    last.within(3600.0)
    timer = last._timer
    assert timer is not None
    last.cancel()
    timer.join(30)
    assert not timer.is_alive()


class Told(LastResort):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[float] = []

    def within(self, seconds: float) -> None:
        self.told.append(seconds)


@pytest.mark.parametrize("impatient", [False, True])
def test_a_drain_has_its_time_and_a_second_signal_cuts_it(impatient: bool) -> None:
    async def main() -> list[float]:
        async def drain() -> None:
            if impatient:
                stop._seen()
                await asyncio.Event().wait()

        node = SimpleNamespace(config=SimpleNamespace(drain=SimpleNamespace(timeout_ms=20_000)), drain=drain)
        stop, last = _Stop(asyncio.get_running_loop()), Told()
        stop._seen()
        await _drain(cast("Any", node), stop, last)
        return last.told

    assert asyncio.run(main()) == ([30.0, 10.0] if impatient else [30.0])
