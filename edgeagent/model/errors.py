"""Every error that a user can meet, as one tree.

Each class fixes a stable ``slug`` (the last part of the problem ``type``, RFC 9457) and an HTTP ``status``; the
message names what was wrong, ``hint`` says what to do, ``details`` are extra members of the problem document.

    EdgeError
    ├── BadRequest 400            malformed request, header, or spec
    │   └── BadConfig             configuration refused (the CLI exits with 2)
    ├── NotAllowed 403            who asks may not do this
    ├── NotFound 404              no such route, function or invocation
    ├── MethodNotAllowed 405
    ├── RequestTimeout 408        the caller did not send its request in time
    ├── Conflict 409              another deploy of this name is running, or a key is in use
    ├── TooLarge 413              body over its limit
    ├── UnsupportedType 415       wrong content type
    ├── Refused 422               understood, but not accepted
    │   ├── WasmRefused           not a module this node can run
    │   │   └── UnknownImports    imports what we do not offer (``details["unknown_imports"]`` lists them)
    │   ├── ManifestRefused       bad manifest value
    │   ├── SourceRefused         Python source or an ONNX graph that cannot be read
    │   ├── WorkflowRefused       bad value in a workflow, a cycle, a step that is not there
    │   └── KeyReused             an Idempotency-Key seen with another request
    ├── Busy 429                  a bounded queue is full; retry later
    ├── Unavailable 503           draining or no capacity; retry later
    ├── GuestFailed 500           the function failed, not the node
    │   ├── GuestTrap             wasm trap (``code``, ``backtrace``)
    │   │   ├── StackOverflow
    │   │   └── OutOfFuel
    │   ├── GuestStateRefused     what it wrote to state was not taken (``cause``), nothing of it was written
    │   ├── GuestExit             non-zero exit (``exit_code``, ``stderr``)
    │   └── BadGuestOutput        pointers outside memory, or output over the limit
    │       └── OutputTooLarge
    ├── RunFailed 500             a run of a workflow failed (``run``, ``step``, ``cause``: the step's problem)
    ├── DeadlineExceeded 504      wall limit or Edgeagent-Deadline-Ms passed
    ├── Cancelled 503             stopped because the caller left or the node shuts down
    ├── StorageFull 507           quota or disk full
    ├── StoreFailed 503           the store refused a write for another reason; nothing was acknowledged
    ├── PeerFailed 502            a daemon that was asked did not answer or answered nonsense
    └── Internal 500              a fault of ours
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "BadConfig",
    "BadGuestOutput",
    "BadRequest",
    "Busy",
    "Cancelled",
    "Conflict",
    "DeadlineExceeded",
    "EdgeError",
    "GuestExit",
    "GuestFailed",
    "GuestStateRefused",
    "GuestTrap",
    "Internal",
    "KeyReused",
    "ManifestRefused",
    "MethodNotAllowed",
    "NotAllowed",
    "NotFound",
    "OutOfFuel",
    "OutputTooLarge",
    "PeerFailed",
    "Refused",
    "RequestTimeout",
    "RunFailed",
    "SourceRefused",
    "StackOverflow",
    "StorageFull",
    "StoreFailed",
    "TooLarge",
    "Unavailable",
    "UnknownImports",
    "UnsupportedType",
    "WasmRefused",
    "WorkflowRefused",
]

TYPE_PREFIX = "urn:edgeagent:problem:"


class EdgeError(Exception):
    """Base of all typed errors; state is unchanged unless a subclass says otherwise."""

    slug: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(
        self, message: str, *, hint: str = "", retry_after_s: float | None = None, **details: Any
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retry_after_s = retry_after_s
        self.details = details

    def problem(self) -> dict[str, Any]:
        """The RFC 9457 problem document of this error."""
        doc: dict[str, Any] = {
            "type": TYPE_PREFIX + self.slug,
            "title": self.slug.replace("-", " "),
            "status": self.status,
            "detail": self.message,
        }
        if self.hint:
            doc["hint"] = self.hint
        return {**self.details, **doc}


class BadRequest(EdgeError):
    slug, status = "bad-request", 400


class BadConfig(BadRequest):
    slug = "bad-config"


class NotAllowed(EdgeError):
    slug, status = "not-allowed", 403


class NotFound(EdgeError):
    slug, status = "not-found", 404


class MethodNotAllowed(EdgeError):
    slug, status = "method-not-allowed", 405


class RequestTimeout(EdgeError):
    slug, status = "request-timeout", 408


class Conflict(EdgeError):
    slug, status = "conflict", 409


class TooLarge(EdgeError):
    slug, status = "too-large", 413


class UnsupportedType(EdgeError):
    slug, status = "unsupported-type", 415


class Refused(EdgeError):
    slug, status = "refused", 422


class WasmRefused(Refused):
    slug = "wasm-refused"


class UnknownImports(WasmRefused):
    slug = "unknown-imports"


class ManifestRefused(Refused):
    slug = "manifest-refused"


class SourceRefused(Refused):
    slug = "source-refused"


class WorkflowRefused(Refused):
    slug = "workflow-refused"


class KeyReused(Refused):
    slug = "idempotency-key-reused"


class Busy(EdgeError):
    slug, status = "queue-full", 429


class Unavailable(EdgeError):
    slug, status = "unavailable", 503


class GuestFailed(EdgeError):
    slug, status = "guest-failed", 500


class GuestTrap(GuestFailed):
    slug = "guest-trap"


class StackOverflow(GuestTrap):
    slug = "guest-stack-overflow"


class OutOfFuel(GuestTrap):
    slug = "guest-out-of-fuel"


class GuestStateRefused(GuestFailed):
    slug = "guest-state-refused"


class GuestExit(GuestFailed):
    slug = "guest-exit"


class BadGuestOutput(GuestFailed):
    slug = "guest-bad-output"


class OutputTooLarge(BadGuestOutput):
    slug = "guest-output-too-large"


class RunFailed(EdgeError):
    slug, status = "run-failed", 500


class DeadlineExceeded(EdgeError):
    slug, status = "deadline-exceeded", 504


class Cancelled(EdgeError):
    slug, status = "cancelled", 503


class StorageFull(EdgeError):
    slug, status = "storage-full", 507


class StoreFailed(EdgeError):
    slug, status = "store-failed", 503


class PeerFailed(EdgeError):
    slug, status = "peer-failed", 502


class Internal(EdgeError):
    slug, status = "internal", 500
