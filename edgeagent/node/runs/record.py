"""The record of a run: all that a node needs to go on with it. Pure.

Rules:

1. One node holds a run at a time, and writes its record; (``epoch``, ``version``) orders what is written. Who takes
   over from a holder that died writes under a later epoch, and what a former holder still says is refused everywhere.
   Who may take over at the same time, not knowing of each other, do it under different ones (``CLAIM``).
2. A record names data by their SHA-256; what the steps to come need lies, durable, wherever the record does.
3. A record that has ended never changes again.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import BadRequest
from edgeagent.model.workflow import Workflow
from edgeagent.node.runs.function_ref import FunctionRef
from edgeagent.node.workflow_views import RunState, StepState

__all__ = [
    "CLAIM",
    "ENDED",
    "RECORD_BYTES_MAX",
    "DataRef",
    "RunRecord",
    "StepRecord",
    "new_run_id",
    "read_record",
]

CLAIM = {
    "holder": 1,
    "guardian": 2,
    "origin": 3,
}  # how much later the epoch is under which each goes on with a run
ENDED = frozenset({"succeeded", "failed", "timed_out"})
DECISIONS_MAX = 512
RECORD_BYTES_MAX = 4 << 20


class DataRef(msgspec.Struct, frozen=True):
    """Bytes by their SHA-256 (hex); ``inline`` are they themselves where they are few."""

    sha256: str
    size: int
    inline: bytes | None = None


class StepRecord(msgspec.Struct, kw_only=True):
    """How one step stands. Times are ms; ``measured_ms`` is from its start at the holder to its output there."""

    name: str
    function: str
    state: StepState = "waiting"
    node: str = ""
    why: str = ""
    backend: str = ""
    hose: str = ""
    cold: bool = False
    attempts: int = 0
    duration_ms: float | None = None
    predicted_ms: float | None = None
    measured_ms: float | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    exit_code: int = 0
    cost_usd: float = 0.0
    energy_j: float = 0.0
    items: int | None = None
    output: DataRef | None = None
    problem: dict[str, Any] | None = None


class RunRecord(msgspec.Struct, kw_only=True):
    """See the module. Times are UTC, ms since 1970; nodes are ids."""

    id: str
    spec: Workflow
    functions: dict[str, FunctionRef]  # by name of the function
    origin: str
    holder: str
    guardian: str = ""
    epoch: int = 1
    version: int = 0
    created_ms: int
    deadline_ms: int
    finished_ms: int = 0
    input: DataRef
    steps: list[StepRecord]
    state: RunState = "running"
    output: DataRef | None = None
    problem: dict[str, Any] | None = None
    decisions: list[dict[str, Any]] = []
    hops: int = 0
    traceparent: str = ""
    key: str = ""
    session: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{0,7168}\Z")] = (
        ""  # what its steps have seen of state (edgeagent.state.session)
    )
    left_ms: int = 0  # until the deadline when it was sent: clocks differ
    wire: int = 1  # version of this form

    @property
    def workflow(self) -> str:
        return self.spec.workflow.name

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def order(self) -> tuple[int, int]:
        """Newer is greater."""
        return self.epoch, self.version

    def rebase(self, now_ms: int) -> None:
        """What came from another node, by our own clock."""
        shift_ms = now_ms + self.left_ms - self.deadline_ms
        self.deadline_ms += shift_ms
        self.created_ms += shift_ms

    def step(self, name: str) -> StepRecord:
        return next(one for one in self.steps if one.name == name)

    def decided(self, entry: dict[str, Any]) -> None:
        """Add to the decision log, which is bounded: the oldest go."""
        self.decisions.append(entry)
        del self.decisions[:-DECISIONS_MAX]

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    def copy(self) -> RunRecord:
        return read_record(self.encode())


def new_run_id() -> str:
    return secrets.token_hex(12)


def read_record(data: bytes) -> RunRecord:
    """Raises BadRequest for what is no record, or of another form."""
    try:
        record = msgspec.json.decode(data, type=RunRecord)
    except UNDECODABLE as error:
        raise BadRequest(f"not the record of a run: {error}"[:300]) from None
    if record.wire != 1 or {one.name for one in record.steps} != {one.name for one in record.spec.step}:
        raise BadRequest(
            f"a record of form {record.wire} whose steps do not fit", hint="form 1 is spoken here"
        )
    return record
