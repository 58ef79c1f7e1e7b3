"""What can be wrong with work for an accelerator: typed, with an HTTP status (CONTRACTS section 4)."""

from __future__ import annotations

from edgeagent.model.errors import BadRequest, Conflict, EdgeError, NotFound, TooLarge

__all__ = [
    "BadDescriptor",
    "BadExpression",
    "BadOperand",
    "BadParameter",
    "KernelExists",
    "KernelFailed",
    "KernelTooLarge",
    "OperandOutside",
    "OperandsOverlap",
    "UnknownKernel",
    "WrongDtype",
    "WrongShape",
]


class BadDescriptor(BadRequest):
    """Bytes that describe no call of a kernel."""

    slug = "bad-accel-descriptor"


class BadOperand(BadDescriptor):
    """An operand with a wrong alignment or rank, or with strides that no array has."""

    slug = "bad-accel-operand"


class OperandOutside(BadOperand):
    """An operand that is not all inside the guest's memory."""

    slug = "accel-operand-outside"


class OperandsOverlap(BadOperand):
    """An output shares bytes with another operand, or with itself."""

    slug = "accel-operands-overlap"


class WrongDtype(BadOperand):
    """A kernel does not take operands of this type."""

    slug = "accel-wrong-dtype"


class WrongShape(BadOperand):
    """Shapes that do not go together."""

    slug = "accel-wrong-shape"


class BadParameter(BadDescriptor):
    """A number or a text that a kernel does not take."""

    slug = "bad-accel-parameter"


class BadExpression(BadParameter):
    """The text of ``elementwise`` is no expression; ``details["at"]`` is the offset of what is wrong."""

    slug = "bad-accel-expression"


class UnknownKernel(NotFound):
    """A name that no kernel of the node has."""

    slug = "unknown-kernel"


class KernelTooLarge(TooLarge):
    """One call would take more work, or more memory of the host, than the node lets it."""

    slug = "kernel-too-large"


class KernelExists(Conflict):
    """A kernel of this name is registered already."""

    slug = "kernel-exists"


class KernelFailed(EdgeError):
    """A kernel raised what it should not; outputs may be half written."""

    slug, status = "kernel-failed", 500
