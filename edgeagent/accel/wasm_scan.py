"""The execution mode of a wasm module: what it imports, what of that can run, and how much work that is.

A module can have no more from a GPU than the host's functions give it: ``edge_accel`` and wasi-nn. Where none of them
can run, the answer is final, however much arithmetic the module does itself; that is shown as advice.
"""

from __future__ import annotations

from collections import Counter

from edgeagent.accel.modes import CROSSOVER_FLOPS, GPU_MODULES, Findings, si
from edgeagent.accel.onnx_scan import scan_onnx
from edgeagent.accel.wasm_graph import STEPS_MAX, Reached, ReachedCall, reach
from edgeagent.accel.wasm_memory import Effort, EffortSpent, Memory
from edgeagent.accel.wasm_module import ImportedFunction, Skeleton, read_skeleton
from edgeagent.accel.wasm_run import Made, Runner
from edgeagent.accel.wasm_work import kernel_flops, read_shapes
from edgeagent.model.errors import SourceRefused
from edgeagent.model.function import Evidence

__all__ = ["scan_wasm"]

# They ask what there is, and run nothing.
_QUESTIONS = {("edge_accel", "query")}
_ONNX_ENCODING, _GPU_TARGET = 1, 1  # wasi-nn: graph-encoding, execution-target
_NAME_BYTES_MAX = 64
_MODEL_BYTES_MAX = 256 << 20
_MODELS_MAX = 4
_DESCRIPTION_BYTES_MAX = 4096
_ADVICE_DENSITY = 0.2


def scan_wasm(wasm: bytes, steps_max: int = STEPS_MAX) -> Findings:
    """Raises WasmRefused for what is no core module."""
    module = read_skeleton(wasm)
    found = Findings(kind="wasm")
    gpu = {index: one for index, one in enumerate(module.imports) if one.module in GPU_MODULES}
    runs = {index for index, one in gpu.items() if (one.module, one.name) not in _QUESTIONS}
    reached = reach(wasm, module, gpu, steps_max)
    live = [call for call in reached.calls if call.imported in runs]
    if runs and not reached.whole:
        found.whole = False
        found.advice.append(Evidence(f"only the first {steps_max} instructions were read", "code section"))
    for call in live:
        found.capable.append(_call_evidence(call, gpu[call.imported]))
    for index, one in gpu.items():
        if all(call.imported != index for call in reached.calls):
            text = f"imports {one.module}.{one.name}, and nothing that runs calls it"
            found.advice.append(Evidence(text, f"offset {one.offset}"))
    if live:
        _predict(wasm, module, reached, live, found)
    if reached.guessed and gpu:
        text = "it has no entry of a function; all its exports were taken for one"
        found.advice.append(Evidence(text, "export section"))
        found.doubtful = True
    _advise(module, reached, found)
    return found


def _call_evidence(call: ReachedCall, what: ImportedFunction) -> Evidence:
    loops = f", {call.depth} loops deep" if call.depth > 1 else ", in a loop" if call.depth else ""
    sometimes = "on some paths" if call.is_conditional else "on every path"
    return Evidence(f"calls {what.module}.{what.name} {sometimes}{loops}", f"offset {call.site.offset}")


def _predict(
    wasm: bytes, module: Skeleton, reached: Reached, live: list[ReachedCall], found: Findings
) -> None:
    """The work of the calls whose arguments are constants; unknown where those that are known do not decide."""
    calls = _Calls(wasm, module, live, found)
    runner = Runner(wasm, module, {call.imported for call in live}, calls.memory, calls.made)
    works: list[float] = []
    others = 0.0
    try:
        works.extend(runner.entry(entry) for entry in reached.entries)
        for call in live:
            # Called through a table, nobody knows when.
            if calls.is_unseen(call) and call.caller not in runner.ran:
                others += runner.entry(call.caller)
    except EffortSpent:
        works.append(runner.most_flops)
        calls.unknown += 1
        found.advice.append(Evidence("more constants than are followed; the rest is unknown", "code section"))
    calls.tell_devices()
    if runner.is_reckoned:
        text = "a loop is not followed to its end; its other rounds count like the first"
        found.advice.append(Evidence(text, "code section"))
        found.doubtful = True
    if runner.is_open:
        found.advice.append(Evidence("a loop whose length is not known counts once", "code section"))
        found.doubtful = True
    total = others + (max(works, default=0.0) if reached.guessed else sum(works))
    if total >= CROSSOVER_FLOPS or not (calls.unknown or any(map(calls.is_unseen, live))):
        found.work_flops = total


def _text(data: list[int | None]) -> str | None:
    known = [byte for byte in data if byte is not None]
    return bytes(known).decode("utf-8", "replace") if data and len(known) == len(data) else None


class _Calls:
    """What the calls that can run ask for, as they are made."""

    def __init__(self, wasm: bytes, module: Skeleton, live: list[ReachedCall], found: Findings) -> None:
        self.memory = Memory(wasm, module, Effort())
        self.unknown = 0
        self._imports = module.imports
        self._sites = {(call.site.offset, call.imported): call for call in live}
        self._seen: set[tuple[int, int]] = set()
        self._shown: set[Evidence] = set()
        self._targets: dict[int, set[bool]] = {}
        self._models = _Models(wasm, module, found)
        self._found = found

    def is_unseen(self, call: ReachedCall) -> bool:
        return (call.site.offset, call.imported) not in self._seen

    def made(self, made: Made) -> float | None:
        """Its work, None: not known."""
        self.memory.effort.spend(20)
        self._seen.add((made.offset, made.callee))
        is_kernel = self._imports[made.callee].module == "edge_accel"
        flops = self._kernel(made) if is_kernel else self._model(made)
        self.unknown += flops is None
        return flops

    def tell_devices(self) -> None:
        """wasi-nn's loads for the GPU; where a load is for one at some times only, it is a choice."""
        for offset, targets in self._targets.items():
            conditional = any(
                call.is_conditional for (place, _), call in self._sites.items() if place == offset
            )
            if True in targets:
                sure = targets == {True} and not conditional
                text = f"wasi-nn load for the GPU {'on every path' if sure else 'on some paths'}"
                (self._found.device if sure else self._found.advice).append(
                    Evidence(text, f"offset {offset}")
                )

    def _kernel(self, made: Made) -> float | None:
        if len(made.values) != 4:
            return None
        at, length, described, size = made.values
        if at is None or described is None or length is None or not 0 < length <= _NAME_BYTES_MAX:
            return None
        name = _text(self.memory.read(at, length))
        most = _DESCRIPTION_BYTES_MAX
        shapes = read_shapes(self.memory.read(described, most if size is None else min(size, most)))
        if name is None or shapes is None:
            return None
        flops = kernel_flops(name, *shapes)
        sizes = " and ".join("x".join(map(str, one.sizes)) or "scalar" for one in shapes[0])
        self._show(Evidence(f"{name} of {sizes}: {si(flops)}FLOP", f"offset {made.offset}"))
        return flops

    def _show(self, one: Evidence) -> None:
        if one not in self._shown:
            self._shown.add(one)
            self._found.work.append(one)

    def _model(self, made: Made) -> float | None:
        """wasi-nn: ``load(builders, count, encoding, target, graph)`` may name the GPU, and may hold its model.

        Its other functions are no work of their own.
        """
        name = self._imports[made.callee].name
        if name in ("load_by_name", "load_by_name_with_config"):
            return None
        if name != "load" or len(made.values) < 4:
            return 0.0
        builder, count, encoding, target = made.values[:4]
        self._targets.setdefault(made.offset, set()).add(target == _GPU_TARGET)
        if builder is None or encoding != _ONNX_ENCODING or count != 1:
            return None
        address, size = self.memory.number(builder, 4), self.memory.number(builder + 4, 4)
        return None if address is None or size is None else self._models.work(address, size)


class _Models:
    """Models in data segments, each read once, and no more than a few."""

    def __init__(self, wasm: bytes, module: Skeleton, found: Findings) -> None:
        self.found = found
        self._wasm = wasm
        self._module = module
        self._works: dict[tuple[int, int], float | None] = {}

    def work(self, address: int, size: int) -> float | None:
        """Of one computation; None: unknown."""
        key = (address, size)
        if key not in self._works:
            if len(self._works) == _MODELS_MAX:
                return None
            self._works[key] = self._read(address, size)
        return self._works[key]

    def _read(self, address: int, size: int) -> float | None:
        for segment in self._module.data:
            first = segment.offset + address - segment.address
            if (
                0 < size <= _MODEL_BYTES_MAX
                and segment.offset <= first <= segment.offset + segment.size - size
            ):
                return self._scan(self._wasm[first : first + size], first)
        return None

    def _scan(self, data: bytes, offset: int) -> float | None:
        try:
            model = scan_onnx(data)
        except SourceRefused as error:
            text = f"a model that cannot be read: {error.message}"
            self.found.advice.append(Evidence(text, f"offset {offset}"))
            return None
        self.found.work.extend(
            Evidence(one.evidence, f"model at offset {offset}, {one.where}") for one in model.work
        )
        return model.work_flops


def _advise(module: Skeleton, reached: Reached, found: Findings) -> None:
    """What share of the instructions is arithmetic on floats and vectors, each weighed by 10 for a loop around it."""
    total: Counter[str] = Counter()
    dense = (0.0, 0, 0)
    for function, facts in reached.facts.items():
        weights = [10 ** min(reached.depths[function] + depth, 4) for depth in range(len(facts.instructions))]
        floats = sum(n * w for n, w in zip(facts.floats, weights, strict=True))
        simd = sum(n * w for n, w in zip(facts.simd, weights, strict=True))
        total["all"] += sum(n * w for n, w in zip(facts.instructions, weights, strict=True))
        total["float"] += floats
        total["simd"] += simd
        dense = max(dense, (floats + simd, function, facts.deepest_loop))
    share = (total["float"] + total["simd"]) / max(total["all"], 1)
    text = (
        f"{len(reached.facts)} functions run; weighed by loops, {total['float'] / max(total['all'], 1):.0%} of their"
        f" instructions are float and {total['simd'] / max(total['all'], 1):.0%} SIMD"
    )
    found.advice.append(Evidence(text, "code section"))
    body = module.body_of(dense[1])
    if dense[0] and body is not None and share >= _ADVICE_DENSITY:
        text = f"most of that arithmetic is in function {dense[1]}, loops {dense[2]} deep"
        if not found.capable:
            text += "; edge_accel would let a GPU do it"
        found.advice.append(Evidence(text, f"offset {body.start}"))
    top = "no limit" if module.memory_max_bytes is None else f"at most {module.memory_max_bytes >> 20} MiB"
    found.advice.append(
        Evidence(f"memory {module.memory_min_bytes >> 10} KiB at start, {top}", "memory section")
    )
