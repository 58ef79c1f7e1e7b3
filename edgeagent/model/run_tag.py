"""Which run of a workflow a call belongs to, and what that run has seen of state: goes with the call. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from edgeagent.model.errors import BadRequest

__all__ = ["RUN_HEADER", "SESSION_HEADER", "RunTag", "read_run_tag"]

RUN_HEADER, SESSION_HEADER = "Edgeagent-Run", "Edgeagent-Session"
_RUN = re.compile(r"([A-Za-z0-9_-]{1,64});epoch=([0-9]{1,15})")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{0,7168}")


class RunTag(msgspec.Struct, frozen=True):
    """``id`` "" for a call outside of any run; ``session`` is a token of :mod:`edgeagent.state.session`, or ""."""

    id: str = ""
    epoch: int = 0
    session: str = ""

    def headers(self) -> dict[str, str]:
        """As a request to another node has it."""
        headers = {RUN_HEADER: f"{self.id};epoch={self.epoch}"} if self.id else {}
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
    return RunTag(found[1], int(found[2]), session)
