"""What can be wrong with state: typed, with an HTTP status (CONTRACTS section 4)."""

from __future__ import annotations

from edgeagent.model.errors import BadRequest, Conflict, EdgeError, StoreFailed, Unavailable

__all__ = [
    "BadKey",
    "BadTransfer",
    "Behind",
    "ClockAhead",
    "DamagedValue",
    "ElectionRefused",
    "Fenced",
    "KeyTaken",
    "MissingChunks",
    "ModeConflict",
    "NotDurable",
    "VersionMismatch",
    "WrongHash",
]


class BadKey(BadRequest):
    """A key, a prefix or a value that is none, or over a limit."""

    slug = "bad-state-key"


class BadTransfer(BadRequest):
    """Bytes of another node that are no message of a transfer, or one over a limit."""

    slug = "bad-state-transfer"


class VersionMismatch(EdgeError):
    """The key has another version than the caller expects; ``details["version"]`` says which ("" = none)."""

    slug, status = "version-mismatch", 412


class KeyTaken(Conflict):
    """A ``once`` key has another value already; ``details["version"]`` is its version."""

    slug = "state-key-taken"


class ModeConflict(Conflict):
    """A writer names a mode, and the key has another one since its first write."""

    slug = "state-mode-conflict"


class Fenced(Conflict):
    """An ``owner`` key has another owner, or a later epoch than the writer's."""

    slug = "state-key-fenced"


class ClockAhead(Conflict):
    """A version from a clock that is too far ahead of ours to be believed."""

    slug = "state-clock-ahead"


class NotDurable(EdgeError):
    """The write is durable here, and not where the caller wanted it in time; ``details`` say ``version`` and
    ``durability`` reached.
    """

    slug, status = "state-not-durable", 504


class Behind(Unavailable):
    """No reachable node has the version that the caller's session has seen; ``details["holders"]`` may have it."""

    slug = "state-behind"


class DamagedValue(StoreFailed):
    """What lies on the disk is not what its hash says; ``details`` name the ``key`` and the ``chunk`` (hexadecimal; of
    a small value: the digest of the value), "" where it is not known.
    """

    slug = "state-value-damaged"


class MissingChunks(Conflict):
    """An entry names chunks that are not here; ``details["chunks"]`` are their hexadecimal digests."""

    slug = "state-chunks-missing"


class WrongHash(BadRequest):
    """What came is not what the hash says that came with it."""

    slug = "state-wrong-hash"


class ElectionRefused(BadRequest):
    """A graph, a contact plan or a demand of which no node can be elected, because it cannot be what was meant."""

    slug = "election-refused"
