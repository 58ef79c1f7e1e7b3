"""The result document of a benchmark (CONTRACTS section 3, schema 1), and its table for people."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from edgeagent.bench.stats import median_ci95, ratio, ratio_ci95, significant

__all__ = ["Better", "Report", "Skipped", "case_document", "table", "write_whole"]

Better = Literal["lower", "higher"]
Samples = Sequence[tuple[float, Mapping[str, Any]]]


class Skipped(msgspec.Struct, frozen=True):
    """A case or peer that was not measured (``name`` is ``case`` or ``peer``), and why."""

    name: str
    reason: str


class Report(msgspec.Struct, kw_only=True):
    """The whole document; ``cases`` holds plain documents, since each case adds fields of its own."""

    benchmark: str
    schema: int = 1
    machine: dict[str, Any]
    date: str
    seed: int
    full: bool
    interrupted: bool = False
    elapsed_s: float = 0.0
    cases: list[dict[str, Any]] = []
    skipped: list[Skipped] = []


def _summary(samples: Samples) -> dict[str, Any]:
    values = [value for value, _ in samples]
    low, high = median_ci95(values)
    more: dict[str, Any] = {}
    for key in samples[0][1]:
        seen = [extra[key] for _, extra in samples if key in extra]
        is_name = isinstance(seen[0], str)
        more[key] = statistics.mode(seen) if is_name else significant(statistics.median(seen))
    return {
        "median": significant(statistics.median(values)),
        "ci95": [significant(low), significant(high)],
        "n": len(values),
        **more,
    }


def case_document(
    name: str,
    params: Mapping[str, Any],
    unit: str,
    better: Better,
    samples: Mapping[str, Samples],
    seed: int,
) -> dict[str, Any]:
    """One entry of ``cases``; ``samples`` maps ``ours`` and each baseline to its rounds, in order.

    A round is (value, further figures of that round): further figures are published as their medians beside
    ``median``, names as the one that most rounds gave. ``ratio`` is made of the two medians and > 1 always
    means that ours is better.
    """
    ours = [value for value, _ in samples["ours"]]
    baselines = {key: rounds for key, rounds in samples.items() if key != "ours" and rounds}
    ratios, intervals = {}, {}
    for key, rounds in baselines.items():
        theirs = [value for value, _ in rounds]
        if not math.isfinite(ratio(ours, theirs, better)):
            continue
        ratios[key] = significant(ratio(ours, theirs, better), 4)
        intervals[key] = [significant(edge, 4) for edge in ratio_ci95(ours, theirs, better, seed)]
    return {
        "name": name,
        "params": dict(params),
        "unit": unit,
        "better": better,
        "ours": _summary(samples["ours"]),
        "baselines": {key: _summary(rounds) for key, rounds in baselines.items()},
        "ratio": ratios,
        "ratio_ci95": intervals,
    }


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _rows(case: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for who, one in {"ours": case["ours"], **case["baselines"]}.items():
        low, high = one["ci95"]
        more = "  ".join(f"{key}={_number(one[key])}" for key in one if key not in {"median", "ci95", "n"})
        times = case["ratio"].get(who)
        rows.append(
            (
                case["name"] if who == "ours" else "",
                who,
                _number(one["median"]),
                f"[{_number(low)}, {_number(high)}]",
                case["unit"] if who == "ours" else "",
                f"ours {_number(times)}x" if times is not None else "",
                more,
            )
        )
    return rows


def table(report: Report) -> str:
    """The report for people: one line for ours and for each baseline, then what was skipped."""
    rows: list[tuple[str, ...]] = [("case", "who", "median", "95 % interval", "unit", "better by", "more")]
    for case in report.cases:
        rows += _rows(case)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]
    for case in report.cases:
        if "breakdown" in case:
            parts = ", ".join(f"{key} {_number(value)}" for key, value in case["breakdown"].items())
            lines.append(f"{case['name']}, where the time goes: {parts}")
    lines += [f"skipped {skipped.name}: {skipped.reason}" for skipped in report.skipped]
    return "\n".join(lines)


def write_whole(path: Path, text: bytes) -> None:
    """Write whole or not at all: a half result is worse than none."""
    beside = path.with_name(path.name + ".tmp")
    beside.write_bytes(text)
    beside.replace(path)
