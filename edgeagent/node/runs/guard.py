"""Guarding a run that another node holds: with its record and data here, it goes on when that node dies.

The guardian asks the holder, and the holder answers when there is something new, so that a holder that is killed is
missed as soon as its connection breaks. Who is out of contact by the plan is not dead: its return is waited for where
it is predicted within the run's deadline. Nor is one of whom this node has not heard yet: after a start it knows nobody
for a while.
"""

from __future__ import annotations

import asyncio
import time

import msgspec
import structlog

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import EdgeError, NotFound, PeerFailed
from edgeagent.node.membership import Membership
from edgeagent.node.remote_hoses import RemoteHoses
from edgeagent.node.runs.board import HELD_S_MAX, PAUSE_S_MAX, Standing
from edgeagent.node.runs.record import ENDED, RunRecord

__all__ = ["Verdict", "may_have_ended", "watch"]

log = structlog.get_logger("runs")

WATCH_S = 5.0  # a holder answers after this at the latest
_GRACE_S = 3.0
_LOOK_S = 0.2
_OCCLUDED_S = 1.0
_MISSES_MAX = 3
STRANGER_S, _STRANGER_SHARE = 10.0, 0.2  # for how long a holder that is no member yet is waited for
_AGAIN_SHARE = 0.3  # of a run's time, for it to be worth beginning a step again
_PAUSE_S = 0.3
_GONE = frozenset({"dead", "left"})

Verdict = str  # "released", "ended", "dead", "late"


async def watch(record: RunRecord, remote: RemoteHoses, membership: Membership) -> Verdict:
    """Until the run has moved on or ended ("released", "ended"), or its holder is no more ("dead"), or out of contact
    for longer than the run has ("away"), or the run is over time ("late").
    """
    misses, known = 0, record.order
    unknown_s = min(STRANGER_S, _STRANGER_SHARE * max(0.0, record.deadline_ms / 1000 - time.time()))
    known_by_s = time.monotonic() + unknown_s
    while True:
        if time.time() * 1000 > record.deadline_ms + 1000:
            return "late"
        try:
            standing = await _ask(record, known, remote, membership)
        except NotFound:
            return "dead"  # it lost its state: nobody holds the run
        except EdgeError as error:
            if membership.state_of(record.holder) in _GONE:
                return "dead"
            if not membership.state_of(record.holder) and time.monotonic() < known_by_s:
                await asyncio.sleep(_PAUSE_S)
                continue
            wait_s = membership.returns_in_s(record.holder)
            if membership.state_of(record.holder) == "occluded" or wait_s is None or wait_s > 0:
                if _is_too_late(record, wait_s):
                    return "away"
                await asyncio.sleep(min(max(wait_s or 0.0, _PAUSE_S), 1.0))
                continue
            misses += 1
            log.info("a holder does not answer", run=record.id, holder=record.holder, why=error.message)
            if misses >= _MISSES_MAX:
                return "dead"
            await asyncio.sleep(_PAUSE_S)
            continue
        misses = 0
        if standing.state in ENDED:
            return "ended"
        if standing.holder != record.holder or standing.epoch > record.epoch:
            return "released"
        known = (standing.epoch, standing.version)


def _is_too_late(record: RunRecord, wait_s: float | None) -> bool:
    """Whether what a holder does comes too late, and there is time to do it again."""
    left_ms = record.deadline_ms - time.time() * 1000
    if left_ms < _AGAIN_SHARE * (record.deadline_ms - record.created_ms):
        return False
    return wait_s is None or wait_s * 1000 > left_ms


async def _ask(
    record: RunRecord, known: tuple[int, int], remote: RemoteHoses, membership: Membership
) -> Standing:
    path = f"/v1/runs/{record.id}/standing?epoch={known[0]}&version={known[1]}"
    asking = asyncio.ensure_future(remote.ask(record.holder, "GET", path, timeout_s=WATCH_S + _GRACE_S))
    try:
        while not asking.done():
            await asyncio.wait({asking}, timeout=_LOOK_S)
            if not asking.done() and membership.state_of(record.holder) in _GONE:
                raise PeerFailed(f"the holder {record.holder} is gone", peer=record.holder)
        return msgspec.json.decode(asking.result().body, type=Standing)
    except UNDECODABLE:
        raise PeerFailed(f"the holder {record.holder} answered with nonsense", peer=record.holder) from None
    finally:
        if not asking.done():
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


async def may_have_ended(record: RunRecord, here: str, membership: Membership) -> bool:
    """Of a run that began ``here`` and is over its time: whether to look again. A holder that is out of contact by the
    plan may have ended it in time, and holds the result until it is back. Returns after a while.
    """
    until_ms = record.deadline_ms + HELD_S_MAX * 1000
    if record.holder == here or membership.state_of(record.holder) != "occluded":
        return False
    while membership.state_of(record.holder) == "occluded":
        if time.time() * 1000 > until_ms:
            return False
        wait_s = membership.returns_in_s(record.holder)
        await asyncio.sleep(min(max(wait_s or 0.0, _OCCLUDED_S), 30.0))
    await asyncio.sleep(PAUSE_S_MAX + _GRACE_S)  # until it looks whether it can deliver
    return time.time() * 1000 < until_ms
