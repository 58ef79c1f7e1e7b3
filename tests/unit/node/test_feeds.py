"""What goes to other processes is sealed, by a copy where its own pages cannot be."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgeagent.node import feeds
from edgeagent.node.feeds import Feeds
from edgeagent.node.meters import Meters


class Pinned:
    """A payload whose pages somebody has pinned."""

    def export(self) -> tuple[int, int, int]:
        raise RuntimeError("the payload cannot be sealed for another process")

    def read(self) -> bytes:
        return b"frame" * 1000


def published(payload: Any) -> tuple[list[Any], Meters]:
    made: list[Any] = []
    one, meters = Feeds.__new__(Feeds), Meters()
    one._meters = meters
    one.socket = cast("Any", SimpleNamespace(publish=lambda _hose, exported: made.append(exported)))
    asyncio.run(one.publish("frames", payload))
    return made, meters


def test_pages_that_cannot_be_sealed_are_copied() -> None:
    (exported,), meters = published(Pinned())
    assert (exported.offset, exported.bytes) == (0, 5000)
    assert os.pread(exported.fd, 5000, 0) == b"frame" * 1000
    with pytest.raises(PermissionError):
        os.pwrite(exported.fd, b"x", 0)
    exported.release()
    assert "hose_frames_failed" not in meters.counters


def test_where_nothing_can_be_sealed_the_frame_is_lost_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_data: bytes) -> int:
        raise RuntimeError("no memfd")

    monkeypatch.setattr(feeds, "sealed_memfd", refused)
    made, meters = published(Pinned())
    assert (made, meters.counters["hose_frames_failed"]) == ([], 1)
