"""Request headers with meaning: Prefer, Idempotency-Key, deadlines, arguments, trace context."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

import msgspec

from edgeagent.hose.errors import HoseFault
from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import BadRequest
from edgeagent.model.run_tag import RUN_HEADER, RunTag, read_run_tag
from edgeagent.node.hose_lines import Invitation
from edgeagent.node.steps import FUNCTIONS_MAX, Step, parse_step
from edgeagent.state.session import read_session

__all__ = [
    "InvokeHeaders",
    "check_peer",
    "new_traceparent",
    "next_traceparent",
    "read_hops",
    "read_invoke_headers",
    "read_peer",
]

DEADLINE_MS_MAX = 86_400_000.0
_ARGS_MAX = 256
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_PEER = re.compile(r"[\x21-\x7e]{1,64}")
_HOPS_MAX = 1000
# W3C Trace Context, version 00 (later versions may be longer, their first four fields are the same).
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?"
)


# Trace ids must differ, not be secret: a system call for each would cost more than all else in this file.
_IDS = random.Random()  # seeded by the system


class InvokeHeaders(msgspec.Struct, frozen=True):
    """``deadline_ms`` = 0 means none; ``args`` is None when the header is absent; ``then`` are the steps that
    run on the output, in this order. ``peer`` is the node that asks, "" for a client: what follows only peers send.
    """

    is_async: bool
    idempotency_key: str | None
    deadline_ms: float
    args: tuple[str, ...] | None
    traceparent: str
    then: tuple[Step, ...] = ()
    peer: str = ""
    hops: int = 0
    hose_input: str = ""
    hose_return: Invitation | None = None
    reservation: str = ""
    tag: RunTag | None = None

    @property
    def is_chain(self) -> bool:
        """Whether it takes more than running one function on a body."""
        return bool(
            self.then or self.peer or self.hose_input or self.hose_return or self.reservation or self.tag
        )


def read_invoke_headers(headers: Mapping[str, str]) -> InvokeHeaders:
    """Read them all; raises BadRequest naming the header and what it must be."""
    tag, reservation = read_run_tag(headers), headers.get("Edgeagent-Reservation", "")[:64]
    if tag is not None:
        read_session(tag.session)
    if tag is not None and tag.id and not reservation:
        raise BadRequest(
            f"{RUN_HEADER} goes with a reservation only: who holds a run says it with each of its steps"
        )
    return InvokeHeaders(
        is_async=_prefers_async(headers.get("Prefer", "")),
        idempotency_key=_key(headers.get("Idempotency-Key")),
        deadline_ms=_deadline(headers.get("Edgeagent-Deadline-Ms")),
        args=_args(headers.get("Edgeagent-Args")),
        traceparent=next_traceparent(headers.get("traceparent", "")),
        then=_then(headers.get("Edgeagent-Then")),
        peer=read_peer(headers),
        hops=read_hops(headers),
        hose_input=headers.get("Edgeagent-Hose-Input", ""),
        hose_return=_return(headers.get("Edgeagent-Hose-Return")),
        reservation=reservation,
        tag=tag,
    )


def next_traceparent(incoming: str) -> str:
    """The context of our span: the caller's trace, or a new one when there is none or it is invalid."""
    found = _TRACEPARENT.fullmatch(incoming)
    if found is None:
        return new_traceparent()
    return f"00-{found[1]}-{_IDS.getrandbits(64):016x}-{found[2]}"


def new_traceparent() -> str:
    """A new trace with our span as its root."""
    return f"00-{_IDS.getrandbits(128):032x}-{_IDS.getrandbits(64):016x}-00"


def _prefers_async(value: str) -> bool:
    return any(part.split(";")[0].strip().lower() == "respond-async" for part in value.split(","))


def _key(value: str | None) -> str | None:
    if value is None:
        return None
    key = value.strip().strip('"')
    if not _KEY.fullmatch(key):
        raise BadRequest("Idempotency-Key must be 1 to 255 visible ASCII characters")
    return key


def _deadline(value: str | None) -> float:
    if value is None:
        return 0.0
    ms = float(value) if _NUMBER.fullmatch(value.strip()) else 0.0
    if not 0 < ms <= DEADLINE_MS_MAX:
        raise BadRequest(
            f"Edgeagent-Deadline-Ms {value[:40]!r} is not a number of milliseconds above 0, up to a day"
        )
    return ms


def _then(value: str | None) -> tuple[Step, ...]:
    if value is None:
        return ()
    names = tuple(name.strip() for name in value.split(","))
    if not all(names) or len(names) > FUNCTIONS_MAX:
        raise BadRequest(
            f"Edgeagent-Then must be 1 to {FUNCTIONS_MAX} names of functions, separated by commas"
        )
    return tuple(map(parse_step, names))


def read_peer(headers: Mapping[str, str]) -> str:
    """Which node asks, or ""; raises BadRequest."""
    peer = headers.get("Edgeagent-Peer", "")
    return check_peer(peer, "Edgeagent-Peer") if peer else ""


def check_peer(peer: str, where: str) -> str:
    """The id of another node as it says it. Raises BadRequest."""
    if not _PEER.fullmatch(peer):
        raise BadRequest(f"{where} must be 1 to 64 visible ASCII characters")
    return peer


def read_hops(headers: Mapping[str, str]) -> int:
    """How many hosts passed it on; raises BadRequest."""
    value = headers.get("Edgeagent-Hops", "0").strip()
    if not (value.isascii() and value.isdigit()) or int(value[:9]) > _HOPS_MAX:
        raise BadRequest(f"Edgeagent-Hops {value[:40]!r} is not a small number")
    return int(value)


def _return(value: str | None) -> Invitation | None:
    if value is None:
        return None
    try:
        invitation = msgspec.json.decode(value, type=Invitation)
        invitation.as_ticket("")
    except (*UNDECODABLE, HoseFault):
        raise BadRequest(
            "Edgeagent-Hose-Return must be a ticket in JSON, as POST /v1/hoses/tickets gives it"
        ) from None
    return invitation


def _args(value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    try:
        args = msgspec.json.decode(value, type=tuple[str, ...])
    except UNDECODABLE:
        raise BadRequest("Edgeagent-Args must be a JSON array of strings") from None
    if len(args) > _ARGS_MAX or any("\0" in arg for arg in args):
        raise BadRequest(f"Edgeagent-Args: at most {_ARGS_MAX} strings, none with NUL")
    return args
