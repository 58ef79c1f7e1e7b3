"""Whether an ONNX model names files: tensors whose data lie outside of it.

A model that comes from a guest is hostile, and such a name would let it read what the node can read. Field numbers are
those of onnx.proto; every place where a tensor can be is looked at.
"""

from __future__ import annotations

from edgeagent.accel.onnx_wire import Budget, fields
from edgeagent.model.errors import SourceRefused

__all__ = ["check_self_contained"]

_FIELDS_MAX = 2_000_000
_DEPTH_MAX = 32
_EXTERNAL = 1

# Message: {field: message of the field}; what is not listed holds no tensors.
_INNER = {
    "model": {7: "graph", 25: "function", 20: "training"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}


def check_self_contained(model: bytes | memoryview) -> None:
    """Raises SourceRefused for a model that names files, and for what is none."""
    _check("model", memoryview(model), Budget(_FIELDS_MAX), 0)


def _check(kind: str, data: memoryview, budget: Budget, depth: int) -> None:
    if depth > _DEPTH_MAX:
        raise SourceRefused(f"an ONNX model with graphs in graphs, more than {_DEPTH_MAX} deep")
    inner = _INNER[kind]
    for number, _, value, offset in fields(data, budget, 0):
        if kind == "tensor":
            if number == 13 or (number == 14 and value == _EXTERNAL):
                raise SourceRefused(
                    f"a tensor's data lie in another file (offset {offset})",
                    hint="save the model in one file",
                )
        elif (name := inner.get(number)) is not None and not isinstance(value, int):
            if name == "training":
                raise SourceRefused("an ONNX model with training information", hint="export it for inference")
            _check(name, value, budget, depth + 1)
