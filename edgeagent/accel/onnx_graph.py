"""The graph of an ONNX model (onnx.proto3 of onnx/onnx, IR version 3 and later): nodes, shapes, and no weights."""

from __future__ import annotations

import struct

import msgspec

from edgeagent.accel.onnx_wire import Budget, fields, floats_of, text_of, varints_of
from edgeagent.model.errors import SourceRefused

__all__ = ["RANK_MAX", "Dims", "Graph", "Node", "Tensor", "read_model"]

_FIELDS_MAX = 1_000_000
_NODES_MAX = 200_000
_DEPTH_MAX = 16  # graphs inside graphs
RANK_MAX = 32
_VALUES_MAX = 64  # of a tensor of integers that may be a shape

# Sizes of the axes, None: given at run time.
Dims = tuple[int | None, ...]


class Tensor(msgspec.Struct):
    dims: tuple[int, ...] = ()
    data_type: int = 0
    # Of small tensors of 64-bit integers: what shapes are made of.
    ints: tuple[int, ...] | None = None
    # Of small tensors of 32-bit floats: factors of sizes.
    floats: tuple[float, ...] | None = None


class Node(msgspec.Struct):
    """``ints`` holds attributes that are integers, one or several; ``offset`` is where the node stands in the file."""

    op: str = ""
    name: str = ""
    domain: str = ""
    inputs: list[str] = msgspec.field(default_factory=list)
    outputs: list[str] = msgspec.field(default_factory=list)
    ints: dict[str, list[int]] = msgspec.field(default_factory=dict)
    floats: dict[str, list[float]] = msgspec.field(default_factory=dict)
    texts: dict[str, str] = msgspec.field(default_factory=dict)
    tensors: dict[str, Tensor] = msgspec.field(default_factory=dict)
    graphs: list[Graph] = msgspec.field(default_factory=list)
    offset: int = 0

    def number(self, name: str, default: int) -> int:
        """An attribute that is one integer."""
        return self.ints.get(name, (default,))[0]


class Graph(msgspec.Struct):
    nodes: list[Node] = msgspec.field(default_factory=list)
    initializers: dict[str, Tensor] = msgspec.field(default_factory=dict)
    shapes: dict[str, Dims] = msgspec.field(default_factory=dict)
    inputs: list[str] = msgspec.field(default_factory=list)
    outputs: list[str] = msgspec.field(default_factory=list)
    # The model's own operators, by domain and name; of the outermost graph only.
    functions: dict[tuple[str, str], Graph] = msgspec.field(default_factory=dict)


def read_model(data: bytes) -> Graph:
    """Raises SourceRefused for anything that is no ONNX model."""
    reader = _Reader()
    graph = None
    functions: dict[tuple[str, str], Graph] = {}
    has_version = False
    if not data:
        raise SourceRefused("not an ONNX model: it is empty")
    for number, _, value, offset in fields(memoryview(data), reader.budget):
        if number == 7 and not isinstance(value, int):
            graph = reader.graph(value, offset, 0)
        elif number == 25 and not isinstance(value, int):
            key, function = reader.function(value, offset)
            functions[key] = function
        has_version = has_version or (number == 1 and isinstance(value, int))
    if graph is None or not has_version:
        raise SourceRefused("not an ONNX model: it has no graph, or no version")
    graph.functions = functions
    return graph


class _Reader:
    def __init__(self) -> None:
        self.budget = Budget(_FIELDS_MAX)
        self._nodes = 0

    def graph(self, data: memoryview, origin: int, depth: int) -> Graph:
        if depth > _DEPTH_MAX:
            raise SourceRefused(f"graphs nested more than {_DEPTH_MAX} deep at offset {origin}")
        found = Graph()
        for number, _, value, offset in fields(data, self.budget, origin):
            if isinstance(value, int):
                continue
            if number == 1:
                found.nodes.append(self._node(value, offset, depth))
            elif number == 5:
                name, tensor = self._tensor(value, offset)
                found.initializers[name] = tensor
            elif number in (11, 12, 13):
                name, dims = self._value(value, offset)
                if dims is not None:
                    found.shapes[name] = dims
                if number != 13:
                    (found.inputs if number == 11 else found.outputs).append(name)
        return found

    def function(self, data: memoryview, origin: int) -> tuple[tuple[str, str], Graph]:
        """FunctionProto: name 1, input 4, output 5, node 7, domain 10."""
        found, name, domain = Graph(), "", ""
        for number, _, value, offset in fields(data, self.budget, origin):
            if number == 1:
                name = text_of(value)
            elif number == 10:
                domain = text_of(value)
            elif number in (4, 5):
                (found.inputs if number == 4 else found.outputs).append(text_of(value))
            elif number == 7 and not isinstance(value, int):
                found.nodes.append(self._node(value, offset, 1))
        return (domain, name), found

    def _node(self, data: memoryview, origin: int, depth: int) -> Node:
        self._nodes += 1
        if self._nodes > _NODES_MAX:
            raise SourceRefused(f"more than {_NODES_MAX} nodes")
        node = Node(offset=origin)
        for number, _, value, offset in fields(data, self.budget, origin):
            if number == 1:
                node.inputs.append(text_of(value))
            elif number == 2:
                node.outputs.append(text_of(value))
            elif number == 3:
                node.name = text_of(value)
            elif number == 4:
                node.op = text_of(value)
            elif number == 7:
                node.domain = text_of(value)
            elif number == 5 and not isinstance(value, int):
                self._attribute(value, offset, node, depth)
        return node

    def _attribute(self, data: memoryview, origin: int, node: Node, depth: int) -> None:
        name = ""
        ints: list[int] = []
        floats: list[float] = []
        text: str | None = None
        tensor: Tensor | None = None
        for number, _, value, offset in fields(data, self.budget, origin):
            if number == 1:
                name = text_of(value)
            elif number in (3, 8):
                ints += varints_of(value, self.budget)
            elif number in (2, 7):
                floats += floats_of(value, self.budget)
            elif number == 4:
                text = text_of(value)
            elif number == 5 and not isinstance(value, int):
                _, tensor = self._tensor(value, offset)
            elif number in (6, 11) and not isinstance(value, int):
                node.graphs.append(self.graph(value, offset, depth + 1))
        if ints:
            node.ints[name] = ints
        if floats:
            node.floats[name] = floats
        if text is not None:
            node.texts[name] = text
        if tensor is not None:
            node.tensors[name] = tensor

    def _tensor(self, data: memoryview, origin: int) -> tuple[str, Tensor]:
        name = ""
        dims: list[int] = []
        found = Tensor()
        raw: memoryview | None = None
        numbers: list[int] = []
        reals: list[float] = []
        for number, wire, value, _ in fields(data, self.budget, origin):
            if number == 1:
                dims += varints_of(value, self.budget)
            elif number == 2 and isinstance(value, int):
                found.data_type = value
            elif number == 8:
                name = text_of(value)
            elif number == 9 and wire == 2 and not isinstance(value, int):
                raw = value
            elif number == 4 and (isinstance(value, int) or len(value) <= 4 * _VALUES_MAX):
                reals += floats_of(value, self.budget)
            elif (
                number == 7
                and len(numbers) <= _VALUES_MAX
                and (isinstance(value, int) or len(value) <= 10 * _VALUES_MAX)
            ):
                numbers += varints_of(value, self.budget)
        if len(dims) > RANK_MAX or any(not 0 <= one < 1 << 48 for one in dims):
            raise SourceRefused(f"a tensor with impossible sizes at offset {origin}")
        found.dims = tuple(dims)
        self._values(found, raw, numbers, reals)
        return name, found

    def _values(self, found: Tensor, raw: memoryview | None, numbers: list[int], reals: list[float]) -> None:
        """Those of a small tensor, which stand in its bytes or one by one."""
        if found.data_type == 7:
            if raw is not None and len(raw) <= 8 * _VALUES_MAX and len(raw) % 8 == 0:
                numbers = [one for (one,) in struct.iter_unpack("<q", raw)]
            if 0 < len(numbers) <= _VALUES_MAX:
                found.ints = tuple(numbers)
        elif found.data_type == 1:
            if raw is not None and len(raw) <= 4 * _VALUES_MAX:
                reals = floats_of(raw, self.budget)
            if 0 < len(reals) <= _VALUES_MAX:
                found.floats = tuple(reals)

    def _value(self, data: memoryview, origin: int) -> tuple[str, Dims | None]:
        name, dims = "", None
        for number, _, value, offset in fields(data, self.budget, origin):
            if number == 1:
                name = text_of(value)
            elif number == 2 and not isinstance(value, int):
                dims = self._shape(value, offset)
        return name, dims

    def _shape(self, data: memoryview, origin: int) -> Dims | None:
        """TypeProto: tensor_type 1, in it shape 2, in it dim 1; sequences and the like have none."""
        for number, _, tensor, offset in fields(data, self.budget, origin):
            if number != 1 or isinstance(tensor, int):
                continue
            for inner, _, shape, place in fields(tensor, self.budget, offset):
                if inner != 2 or isinstance(shape, int):
                    continue
                sizes = tuple(
                    self._dim(dim, where)
                    for key, _, dim, where in fields(shape, self.budget, place)
                    if key == 1 and not isinstance(dim, int)
                )
                return sizes if len(sizes) <= RANK_MAX else None
        return None

    def _dim(self, data: memoryview, origin: int) -> int | None:
        for number, _, value, _ in fields(data, self.budget, origin):
            if number == 1 and isinstance(value, int) and 0 < value < 1 << 48:
                return value
        return None
