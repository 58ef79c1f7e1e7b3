"""What a connection says of many frames at once: what is to go out, how far it came, and what came in."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from edgeagent.hose.errors import HoseFault
from edgeagent.hose.frames import Frame

__all__ = ["Came", "Exchanged", "Outgoing", "RunEnd"]


class Came(IntEnum):
    """How ``receive_frames`` ended; keep in step with ``Came`` in native/hose/wire.hpp."""

    ALL = 0
    HEAD = 1
    DAMAGED = 2
    END = 3
    FAILED = 4
    WHOLE = 5
    PAUSED = 6


class Outgoing(NamedTuple):
    """Bytes ``offset`` to ``end`` of ``view``, to be sent as frames of at most ``frame_bytes`` with a CRC-32 each, with
    heads ``before`` and ``after`` them. ``skip`` bytes of what comes next are out already.
    """

    identity: bytes
    view: memoryview
    offset: int
    end: int
    frame_bytes: int
    before: bytes = b""
    after: bytes = b""
    skip: int = 0


class Exchanged(NamedTuple):
    """How far a transfer came that is new: its first ``ahead`` bytes were to go along with the offer.

    With ``is_cut_short`` the kernel did not take them all: go on at ``offset``, of whose frame, and of what goes before
    it, ``skip`` bytes are out. ``answers`` came and were taken: ACCEPT, of nothing so far and all to come, and ACK.
    ``fault`` has ended the connection.
    """

    ahead: int
    is_cut_short: bool = False
    offset: int = 0
    skip: int = 0
    answers: int = 0
    fault: HoseFault | None = None


class RunEnd(NamedTuple):
    """How a run of frames ended: up to ``end`` the bytes are there and right. ``frame`` came where none of
    the run could; with ``is_damaged`` it is one of it, and its payload is in place and wrong. ``fault`` ends the
    connection. ``is_whole`` is a transfer that is there with its end.
    """

    end: int
    frame: Frame | None = None
    is_damaged: bool = False
    fault: HoseFault | None = None
    is_whole: bool = False
