"""The execution mode of an ONNX model: which of its operators a GPU could run, and how much work they are a call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from edgeagent.accel.modes import CROSSOVER_FLOPS, Findings, si
from edgeagent.accel.onnx_flops import HOST_OPS, elements, node_flops, node_shape
from edgeagent.accel.onnx_graph import Dims, Graph, Node, read_model
from edgeagent.model.function import Evidence

__all__ = ["scan_onnx"]

_SHOWN_OPS = 5


def scan_onnx(data: bytes) -> Findings:
    """Raises SourceRefused for what is no ONNX model."""
    graph = read_model(data)
    found = Findings(kind="onnx graph")
    tally = _Tally()
    tally.graph(graph, {}, {})
    if not tally.first:
        found.advice.append(Evidence(f"{tally.nodes} operators, none of which a GPU could run", "graph"))
        return found
    for op, node in tally.first.items():
        found.capable.append(Evidence(f"{tally.counts[op]} x {op}", _where(node)))
    found.capable.sort(key=lambda one: -int(one.evidence.split(" ", 1)[0]))
    ranked = sorted(tally.flops.items(), key=lambda item: -item[1])
    for op, flops in ranked[:_SHOWN_OPS]:
        found.work.append(Evidence(f"{op}: {si(flops)}FLOP", _where(tally.first[op])))
    total = sum(tally.flops.values())
    text = f"{tally.nodes} operators, {tally.weights} weights"
    if tally.open_sizes:
        text += "; sizes that are given at run time count 1"
    found.advice.append(Evidence(text, "graph"))
    # Below the crossover the least that it can be says nothing where sizes are open.
    if total >= CROSSOVER_FLOPS or not tally.open_sizes:
        found.work_flops = total
    return found


def _where(node: Node) -> str:
    return f"node {node.name!r} at offset {node.offset}" if node.name else f"offset {node.offset}"


class _Tally:
    def __init__(self) -> None:
        self.counts: dict[str, int] = defaultdict(int)
        self.flops: dict[str, float] = defaultdict(float)
        self.first: dict[str, Node] = {}
        self.nodes = 0
        self.weights = 0
        self.open_sizes = False

    def graph(self, graph: Graph, outer: dict[str, Dims], outer_ints: dict[str, Sequence[int]]) -> None:
        """Its nodes in order, as the format has them; inner graphs see the names around them."""
        shapes = {**outer, **graph.shapes}
        ints = dict(outer_ints)
        for name, tensor in graph.initializers.items():
            shapes[name] = tensor.dims
            self.weights += elements(tensor.dims)
            if tensor.ints is not None:
                ints[name] = tensor.ints
        for node in _used(graph):
            self.nodes += 1
            if node.op == "Constant" and node.outputs:
                _constant(node, shapes, ints)
                continue
            out = shapes.get(node.outputs[0]) if node.outputs else None
            inferred = node_shape(node, shapes.get, ints.get)
            if out is None or (inferred is not None and out.count(None) > inferred.count(None)):
                out = inferred
            if out is not None:
                shapes[node.outputs[0]] = out
            if node.op not in HOST_OPS:
                self._count(node, shapes, out)
            for inner in node.graphs:
                self.graph(inner, shapes, ints)

    def _count(self, node: Node, shapes: dict[str, Dims], out: Dims | None) -> None:
        self.counts[node.op] += 1
        self.first.setdefault(node.op, node)
        self.flops[node.op] += node_flops(node, shapes.get, out)
        known = [out, *(shapes.get(name) for name in node.inputs if name)]
        self.open_sizes = self.open_sizes or any(dims is None or None in dims for dims in known)


def _constant(node: Node, shapes: dict[str, Dims], ints: dict[str, Sequence[int]]) -> None:
    name = node.outputs[0]
    tensor = node.tensors.get("value")
    if tensor is not None:
        shapes[name] = tensor.dims
        if tensor.ints is not None:
            ints[name] = tensor.ints
    elif (values := node.ints.get("value_ints") or node.ints.get("value_int")) is not None:
        shapes[name] = (len(values),) if "value_ints" in node.ints else ()
        ints[name] = values


def _used(graph: Graph) -> list[Node]:
    """The nodes that an output depends on: a runtime drops the rest."""
    if not graph.outputs:
        return graph.nodes
    makers = {name: place for place, node in enumerate(graph.nodes) for name in node.outputs if name}
    kept: set[int] = set()
    waiting = list(graph.outputs)
    while waiting:
        place = makers.get(waiting.pop())
        if place is not None and place not in kept:
            kept.add(place)
            node = graph.nodes[place]
            waiting.extend(node.inputs)
            for inner in node.graphs:
                waiting.extend(_names_inside(inner))
    return [node for place, node in enumerate(graph.nodes) if place in kept]


def _names_inside(graph: Graph) -> list[str]:
    """Names that an inner graph may take from around it."""
    names = list(graph.outputs)
    for node in graph.nodes:
        names.extend(node.inputs)
        for inner in node.graphs:
            names.extend(_names_inside(inner))
    return names
