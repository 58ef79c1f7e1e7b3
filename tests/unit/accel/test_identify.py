"""The execution-mode identifier on its corpus, on the corpus written differently, and what comes of several inputs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from edgeagent.accel.chosen_mode import chosen, refined
from edgeagent.accel.identify import identify, identify_module, kind_of
from edgeagent.accel.modes import CROSSOVER_FLOPS, Findings, decide, si
from edgeagent.bench.accel_corpus import LabelledCase, case_bytes, corpus
from edgeagent.bench.accel_emi import classify, gaia_mode
from edgeagent.bench.accel_variants import varied
from edgeagent.model.errors import SourceRefused, WasmRefused
from edgeagent.model.function import Accel, Evidence, Identified, Import, ModuleInfo

CORPUS = corpus()
EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: f"{case.kind}-{case.name}")
def test_the_corpus(case: LabelledCase) -> None:
    found = identify(case.kind, case_bytes(case))
    assert found.mode == case.mode, found.rationale
    assert 0 < found.confidence <= 1
    assert all(one.evidence and one.where for one in found.rationale)


def test_the_corpus_is_large_and_mixed() -> None:
    assert len(CORPUS) >= 60
    assert len({(case.kind, case.name) for case in CORPUS}) == len(CORPUS)
    counts = Counter(case.mode for case in CORPUS)
    assert min(counts.values()) >= 10
    assert set(counts) == {"cpu", "cpu_preferred", "gpu_preferred", "gpu"}


@pytest.mark.parametrize("seed", range(4))
def test_the_corpus_written_differently(seed: int) -> None:
    others = [varied(case, seed) for case in CORPUS]
    changed = [a.text != b.text for a, b in zip(CORPUS, others, strict=True)]
    assert all(changed)
    scores = classify(others)
    assert not scores.wrong


def test_the_matrix_counts_what_is_wrong() -> None:
    scores = classify(CORPUS[:1], lambda _: "gpu")
    assert scores.percent == 0
    assert scores.matrix()[CORPUS[0].mode]["gpu"] == 1
    assert len(scores.wrong) == 1
    assert {gaia_mode(case) for case in CORPUS} >= {"cpu", "cpu_preferred", "gpu"}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/*.wasm")), ids=lambda path: path.stem)
def test_examples_are_for_the_cpu_but_those_that_call_kernels(path: Path) -> None:
    found = identify("wasm", path.read_bytes())
    if path.parent.name == "accel":  # how much work it is depends on its input
        assert found.mode == "cpu_preferred"
        return
    assert found.mode == "cpu"
    assert any("SIMD" in one.evidence for one in found.rationale)


def test_evidence_has_its_place() -> None:
    case = next(case for case in CORPUS if case.name == "call-through-helpers")
    binary = case_bytes(case)
    where = identify("wasm", binary).rationale[1].where
    offset = int(where.removeprefix("offset "))
    assert binary[offset] == 0x10  # the call instruction
    assert binary[offset + 1] == 0  # of the imported function
    graph = next(case for case in CORPUS if case.name == "big-product")
    data = case_bytes(graph)
    place = int(identify("onnx", data).rationale[1].where.removeprefix("offset "))
    assert b"MatMul" in data[place : place + 20]


@pytest.mark.parametrize(
    ("work", "mode"),
    [(None, "cpu_preferred"), (CROSSOVER_FLOPS * 0.99, "cpu_preferred"), (CROSSOVER_FLOPS, "gpu_preferred")],
)
def test_the_crossover(work: float | None, mode: str) -> None:
    found = Findings(kind="x", capable=[Evidence("imports it", "line 1")], work_flops=work)
    assert decide(found).mode == mode
    found.device.append(Evidence("asks", "line 2"))
    assert decide(found).mode == "gpu"


def test_confidence_is_lower_where_less_is_known() -> None:
    capable = [Evidence("imports it", "line 1")]
    near = decide(Findings(kind="x", capable=capable, work_flops=CROSSOVER_FLOPS * 1.1))
    far = decide(Findings(kind="x", capable=capable, work_flops=CROSSOVER_FLOPS * 100))
    part = decide(Findings(kind="x", capable=capable, work_flops=CROSSOVER_FLOPS * 100, whole=False))
    assert part.confidence < near.confidence < far.confidence
    assert decide(Findings(kind="x", whole=False)).mode == "cpu_preferred"


def test_a_rationale_is_bounded() -> None:
    many = [Evidence("e" * 500, f"line {n}") for n in range(1000)]
    shown = decide(Findings(kind="x", capable=many, work=many, advice=many)).rationale
    assert len(shown) < 30
    assert max(len(one.evidence) for one in shown) <= 200
    assert shown[-1].evidence.startswith("and ")


def test_units() -> None:
    assert [si(value) for value in (2.13e10, 5e15, 12, 3.2e6, 4e12, 1500)] == [
        "21.3 G", "5 P", "12 ", "3.2 M", "4 T", "1.5 k",
    ]  # fmt: skip


def _identified(mode: str) -> Identified:
    return Identified(mode=mode, confidence=0.8, rationale=(Evidence(f"because {mode}", "line 7"),))  # type: ignore[arg-type]


def test_sources_refine_what_a_module_leaves_open() -> None:
    found = refined(_identified("cpu_preferred"), {"python": _identified("gpu_preferred")})
    assert found.mode == "gpu_preferred"
    assert found.rationale[0].where == "accel.python: line 7"
    # A module that reaches no GPU stays where it is, and so does one of which more is known than of its source.
    assert refined(_identified("cpu"), {"onnx": _identified("gpu_preferred")}).mode == "cpu"
    assert refined(_identified("gpu"), {"onnx": _identified("cpu_preferred")}).mode == "gpu"
    assert refined(_identified("cpu"), {}) == _identified("cpu")


def _info(*imports: Import, identified: Identified | None = None) -> ModuleInfo:
    return ModuleInfo(sha256="", size_bytes=1, abi="bytes", imports=imports, identified=identified)


def test_a_manifest_comes_first() -> None:
    known = _info(identified=_identified("cpu"))
    assert chosen(Accel(), known).mode == "cpu"
    pinned = chosen(Accel(mode="gpu"), known)
    assert (pinned.mode, pinned.confidence) == ("gpu", 1.0)
    assert pinned.rationale[0].where == "manifest accel.mode"
    assert pinned.rationale[1:] == _identified("cpu").rationale


def test_what_was_described_before_there_was_an_identifier() -> None:
    assert chosen(Accel(), _info()).mode == "cpu"
    assert chosen(Accel(), _info(Import("edge_accel", "call"))).mode == "cpu_preferred"


def test_kinds_by_name() -> None:
    assert [kind_of(name) for name in ("a.PY", "b.onnx", "c.wasm", "d")] == ["python", "onnx", "wasm", "wasm"]


def test_malformed_input_is_refused_with_a_place() -> None:
    with pytest.raises(WasmRefused, match="not WebAssembly"):
        identify("wasm", b"hello")
    with pytest.raises(SourceRefused, match="line 2"):
        identify("python", b"x = 1\ny = (")
    with pytest.raises(SourceRefused, match="not Python"):
        identify("python", b"x = 1\0")
    with pytest.raises(SourceRefused, match="empty"):
        identify("onnx", b"")
    with pytest.raises(SourceRefused, match="offset"):
        identify("onnx", b"\x3a\xff\x01")


def test_a_module_that_only_we_cannot_read_is_deployed_all_the_same() -> None:
    """An instruction of a proposal that the engine takes and this reader does not know."""
    body = b"\x00\xfb\x7f\x00\x0b"
    code = bytes([1, len(body)]) + body
    module = (
        b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\0"
        + bytes([10, len(code)])
        + code
    )
    with pytest.raises(WasmRefused, match="unknown opcode 0xfb"):
        identify("wasm", module)
    found = identify_module(module)
    assert found.mode == "cpu_preferred"
    assert "cannot be read" in found.rationale[1].evidence
