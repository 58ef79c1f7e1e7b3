"""The execution mode of an ONNX model: which of its operators a GPU could run, and how much work they are a call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from edgeagent.accel.modes import CROSSOVER_FLOPS, Findings, si
from edgeagent.accel.onnx_flops import HOST_OPS, elements, node_flops
from edgeagent.accel.onnx_graph import Dims, Graph, Node, read_model
from edgeagent.accel.onnx_shapes import node_shape, other_shapes
from edgeagent.accel.onnx_values import Known, node_ints
from edgeagent.model.function import Evidence

__all__ = ["scan_onnx"]

_SHOWN_OPS = 5
# Nodes, weights and names, those of functions and branches each time that they are followed.
_STEPS_MAX = 300_000
_DEPTH_MAX = 16
_TIMES_MAX = 1e12


def scan_onnx(data: bytes) -> Findings:
    """Raises SourceRefused for what is no ONNX model."""
    graph = read_model(data)
    found = Findings(kind="onnx graph")
    tally = _Tally(graph.functions)
    tally.graph(graph, Known())
    found.whole = tally.whole
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
    if total >= CROSSOVER_FLOPS or not (tally.open_sizes or not tally.whole):
        found.work_flops = total
    return found


def _where(node: Node) -> str:
    return f"node {node.name!r} at offset {node.offset}" if node.name else f"offset {node.offset}"


class _Tally:
    """Of what runs: of two branches the dearer one, of a loop whose length is known each round."""

    def __init__(self, functions: dict[tuple[str, str], Graph]) -> None:
        self.counts: dict[str, int] = defaultdict(int)
        self.flops: dict[str, float] = defaultdict(float)
        self.first: dict[str, Node] = {}
        self.nodes = 0
        self.weights = 0
        self.open_sizes = False
        self.whole = True
        self._functions = functions
        self._left = _STEPS_MAX
        self._times = 1.0
        self._depth = 0

    def graph(self, graph: Graph, known: Known) -> Known:
        """Its nodes in order, as the format has them; ``known`` is what is known around it. Returns what is then."""
        size = len(graph.nodes) + len(graph.initializers) + len(graph.shapes)
        size += sum(len(node.inputs) + len(node.outputs) for node in graph.nodes) // 16
        if not self._spend(size + len(known.shapes) // 16):
            return known
        known = known.copy()
        known.shapes.update(graph.shapes)
        for name, tensor in graph.initializers.items():
            known.hold(name, tensor)
            self.weights += elements(tensor.dims)
        for node in _used(graph):
            self.nodes += 1
            self._node(node, known)
        return known

    def _spend(self, steps: int) -> bool:
        self._left -= steps
        self.whole = self.whole and self._left >= 0
        return self.whole

    def _node(self, node: Node, known: Known) -> None:
        if node.op == "Constant" and node.outputs:
            _constant(node, known)
            return
        own = self._functions.get((node.domain, node.op))
        if own is not None:
            self._own(node, own, known)
            return
        if node.graphs:
            self._inner(node, known)
        out = known.shapes.get(node.outputs[0]) if node.outputs else None
        inferred = node_shape(node, known)
        if out is None or (inferred is not None and out.count(None) > inferred.count(None)):
            out = inferred
        for name, dims in zip(node.outputs, (out, *other_shapes(node, known, out)), strict=False):
            if name and dims is not None:
                known.shapes[name] = dims
        if node.outputs and node.outputs[0] and (numbers := node_ints(node, known)) is not None:
            known.numbers[node.outputs[0]] = numbers
        if node.op not in HOST_OPS:
            self._count(node, known, out)

    def _own(self, node: Node, function: Graph, known: Known) -> None:
        """An operator that the model defines itself."""
        if self._depth == _DEPTH_MAX:
            self.whole = False
        if not self.whole:
            return
        self._depth += 1
        found = self.graph(function, _passed(zip(function.inputs, node.inputs, strict=False), known))
        self._depth -= 1
        for inside, outside in zip(function.outputs, node.outputs, strict=False):
            if inside in found.shapes:
                known.shapes[outside] = found.shapes[inside]

    def _inner(self, node: Node, known: Known) -> None:
        if not self.whole:
            return
        if node.op == "If":
            before, works = self.flops, []
            for graph in node.graphs:
                self.flops = defaultdict(float)
                found = self.graph(graph, known)
                works.append(self.flops)
                _tell(graph.outputs, node.outputs, found, known)
            self.flops = before
            for op, flops in max(works, key=lambda one: sum(one.values())).items():
                self.flops[op] += flops
            return
        times, inputs = _rounds(node, node.graphs[0], known)
        counted, outer = sum(self.counts.values()), self._times
        self._times = min(outer * (times or 1), _TIMES_MAX)
        for graph in node.graphs:
            around = known.copy()
            around.shapes.update(inputs)
            found = self.graph(graph, around)
            if node.op == "Loop":
                _tell(graph.outputs[1 : len(node.inputs) - 1], node.outputs, found, known)
        self._times = outer
        if times is None and sum(self.counts.values()) > counted:
            self.open_sizes = True

    def _count(self, node: Node, known: Known, out: Dims | None) -> None:
        self.counts[node.op] += 1
        self.first.setdefault(node.op, node)
        self.flops[node.op] += self._times * node_flops(node, known.shapes.get, out)
        seen = [out, *(known.shapes.get(name) for name in node.inputs if name)]
        self.open_sizes = self.open_sizes or any(dims is None or None in dims for dims in seen)


def _passed(names: Iterable[tuple[str, str]], known: Known) -> Known:
    """What a function knows of its inputs (inside, outside)."""
    found = Known()
    for inside, outside in names:
        if outside in known.shapes:
            found.shapes[inside] = known.shapes[outside]
        if outside in known.numbers:
            found.numbers[inside] = known.numbers[outside]
        if outside in known.reals:
            found.reals[inside] = known.reals[outside]
    return found


def _tell(inside: Sequence[str], outside: Sequence[str], found: Known, known: Known) -> None:
    for name, to in zip(inside, outside, strict=False):
        if name in found.shapes:
            known.shapes.setdefault(to, found.shapes[name])


def _rounds(node: Node, body: Graph, known: Known) -> tuple[int | None, dict[str, Dims]]:
    """How often a Loop or a Scan runs its body, and the shapes of what the body is given."""
    given: dict[str, Dims] = {}
    times: int | None = None
    scanned = node.ints.get("num_scan_inputs", [0])[0] if node.op == "Scan" else 0
    states = len(node.inputs) - scanned
    if node.op == "Loop":
        length = known.ints(node, 0)
        times = length[0] if length and length[0] is not None and length[0] >= 0 else None
    for place, name in enumerate(body.inputs):
        dims = known.shape(node, place)
        if dims is None or name in body.shapes:
            continue
        given[name] = dims[1:] if node.op == "Scan" and place >= states else dims
    if node.op == "Scan" and scanned and (first := known.shape(node, states)):
        times = first[0]
    return times, given


def _constant(node: Node, known: Known) -> None:
    name = node.outputs[0]
    tensor = node.tensors.get("value")
    if tensor is not None:
        known.hold(name, tensor)
    elif (values := node.ints.get("value_ints") or node.ints.get("value_int")) is not None:
        known.shapes[name] = (len(values),) if "value_ints" in node.ints else ()
        known.numbers[name] = tuple(values)
    elif (reals := node.floats.get("value_floats") or node.floats.get("value_float")) is not None:
        known.shapes[name] = (len(reals),) if "value_floats" in node.floats else ()
        known.reals[name] = tuple(reals)


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
