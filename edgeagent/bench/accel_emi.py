"""The case ``emi-accuracy``: how many labelled cases the execution-mode identifier classes as they are labelled.

A round classes the whole corpus; beside the percentage stand the confusion matrix, the same for each kind of input,
and for the corpus written differently (accel_variants.py). The baseline ``gaia-rules`` is what the original's rules,
re-implemented from notes of them, make of the Python part; it reads nothing else.
"""

from __future__ import annotations

import ast
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from edgeagent.accel.identify import identify
from edgeagent.bench.accel_corpus import LabelledCase, case_bytes, corpus
from edgeagent.bench.accel_variants import varied
from edgeagent.bench.harness import Bench, Case, Rounds, Sample, Sampler
from edgeagent.model.function import ExecutionMode

__all__ = ["Scores", "cases", "classify", "gaia_mode"]

MODES: tuple[ExecutionMode, ...] = ("cpu", "cpu_preferred", "gpu_preferred", "gpu")
_VARIANTS = 5
_GAIA_ELEMENTS = 1000


class Scores:
    """Labels against answers, and which cases went wrong."""

    def __init__(self) -> None:
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.wrong: list[str] = []
        self.slowest_ms = 0.0

    @property
    def percent(self) -> float:
        right = sum(count for (label, mode), count in self.pairs.items() if label == mode)
        return 100.0 * right / max(sum(self.pairs.values()), 1)

    def matrix(self) -> dict[str, dict[str, int]]:
        """Rows are labels, columns answers."""
        return {label: {mode: self.pairs[label, mode] for mode in MODES} for label in MODES}


def _ours(case: LabelledCase) -> str:
    return identify(case.kind, case_bytes(case)).mode


def classify(labelled: list[LabelledCase], answer: Callable[[LabelledCase], str] = _ours) -> Scores:
    scores = Scores()
    for case in labelled:
        started = time.perf_counter()
        mode = answer(case)
        scores.slowest_ms = max(scores.slowest_ms, (time.perf_counter() - started) * 1e3)
        scores.pairs[case.mode, mode] += 1
        if mode != case.mode:
            scores.wrong.append(f"{case.kind} {case.name}: {mode}, labelled {case.mode}")
    return scores


def gaia_mode(case: LabelledCase) -> str:
    """The original's rules: imports by exact name, literal device calls of which the last one visited counts, literal
    sizes; all that it cannot parse is ``cpu``.
    """
    if case.kind != "python":
        return "cpu"
    tree = ast.parse(case.text)
    imported = explicit = large = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported = imported or any(
                one.name in ("torch", "tensorflow", "transformers", "json") for one in node.names
            )
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        literal = [one.value for one in node.args if isinstance(one, ast.Constant)]
        explicit = node.func.attr == "cuda" or (node.func.attr in ("to", "device") and literal == ["cuda"])
        if node.func.attr in ("rand", "randn", "zeros", "ones", "tensor", "empty"):
            size = 1
            for one in literal:
                size *= one if isinstance(one, int) else 1
            large = large or (bool(literal) and size > _GAIA_ELEMENTS)
    if explicit:
        return "gpu"
    return "gpu_preferred" if imported and large else "cpu_preferred" if imported else "cpu"


@contextmanager
def _open(_bench: Bench) -> Iterator[dict[str, Sampler]]:
    labelled = corpus()
    python = [case for case in labelled if case.kind == "python"]

    def ours() -> Sample:
        return classify(labelled).percent, {}

    def theirs() -> Sample:
        return classify(python, gaia_mode).percent, {}

    yield {"ours": ours, "gaia-rules": theirs}


def _fields(_rounds: Rounds, bench: Bench) -> dict[str, Any]:
    labelled = corpus()
    whole = classify(labelled)
    others = classify([varied(case, bench.options.seed + n) for case in labelled for n in range(_VARIANTS)])
    kinds = sorted({case.kind for case in labelled})
    return {
        "confusion": whole.matrix(),
        "by_kind": {kind: classify([c for c in labelled if c.kind == kind]).percent for kind in kinds},
        "wrong": whole.wrong,
        "slowest_ms": round(whole.slowest_ms, 2),
        "varied": {
            "percent": others.percent,
            "cases": sum(others.pairs.values()),
            "wrong": others.wrong[:20],
        },
    }


def cases() -> list[Case]:
    return [
        Case(
            name="emi-accuracy",
            unit="%",
            better="higher",
            open=_open,
            params={"cases": len(corpus()), "variants": _VARIANTS, "gaia_rules_read": "python only"},
            rounds=7,
            rounds_full=7,
            warm_up_rounds=0,
            fields=_fields,
        )
    ]
