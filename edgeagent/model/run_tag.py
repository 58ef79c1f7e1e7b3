"""Which run of a workflow a call belongs to, and what that run has seen of state: goes with the call. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from edgeagent.model.errors import BadRequest

__all__ = ["NEXT_HEADER", "RUN_HEADER", "SESSION_HEADER", "RunTag", "read_run_tag"]

RUN_HEADER, SESSION_HEADER = "Edgeagent-Run", "Edgeagent-Session"
NEXT_HEADER = "Edgeagent-Run-Next"
_RUN = re.compile(r"([A-Za-z0-9_-]{1,64});epoch=([0-9]{1,15})")
_NEXT = re.compile(r"[0-9A-Za-z_.:-]{1,64}(,[0-9A-Za-z_.:-]{1,64}){0,7}")
_NEXT_MAX = 8
_TOKEN = re.compile(r"[A-Za-z0-9_-]{0,7168}")


class RunTag(msgspec.Struct, frozen=True):
    """``id`` "" for a call outside of any run; ``session`` is a token of :mod:`edgeagent.state.session`, or "".
    ``following``: the nodes where the steps after this one are to run, as far as that is planned; eight are told.
    """

    id: str = ""
    epoch: int = 0
    session: str = ""
    following: tuple[str, ...] = ()

    def headers(self) -> dict[str, str]:
        """As a request to another node has it."""
        headers = {RUN_HEADER: f"{self.id};epoch={self.epoch}"} if self.id else {}
        if self.id and self.following:
            headers[NEXT_HEADER] = ",".join(self.following[:_NEXT_MAX])
        return headers | ({SESSION_HEADER: self.session} if self.session else {})


def read_run_tag(headers: Mapping[str, str]) -> RunTag | None:
    """What ``headers`` wrote, None where there is nothing. Raises BadRequest."""
    run, session = headers.get(RUN_HEADER), headers.get(SESSION_HEADER, "")
    if not _TOKEN.fullmatch(session):
        raise BadRequest(f"{SESSION_HEADER} is no session token", hint="as a reply said it")
    if run is None:
        return RunTag(session=session) if session else None
    found = _RUN.fullmatch(run)
    if found is None:
        raise BadRequest(f"{RUN_HEADER} {run[:80]!r} is not ID;epoch=N")
    following = headers.get(NEXT_HEADER, "")
    if following and not _NEXT.fullmatch(following):
        raise BadRequest(f"{NEXT_HEADER} {following[:80]!r} does not name nodes")
    return RunTag(found[1], int(found[2]), session, tuple(filter(None, following.split(","))))
