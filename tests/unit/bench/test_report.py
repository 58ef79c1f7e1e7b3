"""The result document keeps CONTRACTS section 3, and its table says the same."""

from __future__ import annotations

from typing import Any

import msgspec

from edgeagent.bench.harness import Sample
from edgeagent.bench.report import Report, Skipped, case_document, table


def document() -> dict[str, Any]:
    samples: dict[str, list[Sample]] = {
        "ours": [(5.0, {"p99_us": 9.0}), (6.0, {"p99_us": 11.0}), (7.0, {"p99_us": 10.0})],
        "peer": [(120.0, {}), (120.0, {}), (121.0, {})],
        "never": [],
    }
    return case_document("one", {"body_bytes": 1024}, "us", "lower", samples, seed=1)


def test_a_case_has_the_contracts_members() -> None:
    assert document() == {
        "name": "one",
        "params": {"body_bytes": 1024},
        "unit": "us",
        "better": "lower",
        "ours": {"median": 6.0, "ci95": [5.0, 7.0], "n": 3, "p99_us": 10.0},
        "baselines": {"peer": {"median": 120.0, "ci95": [120.0, 121.0], "n": 3}},
        "ratio": {"peer": 20.0},
        "ratio_ci95": {"peer": [17.29, 24.0]},
    }


def test_a_ratio_against_nothing_is_left_out() -> None:
    samples: dict[str, list[Sample]] = {"ours": [(0.0, {})], "peer": [(1.0, {})]}
    case = case_document("one", {}, "ms", "lower", samples, seed=1)
    assert case["ratio"] == {}
    assert case["baselines"]["peer"]["median"] == 1.0


def whole() -> Report:
    return Report(
        benchmark="invoke",
        machine={"cpu": "x"},
        date="2026-01-01T00:00:00Z",
        seed=1,
        full=False,
        cases=[{**document(), "breakdown": {"guest_us": 1234.0}}],
        skipped=[Skipped("workerd", "not here")],
    )


def test_the_report_has_the_contracts_members() -> None:
    plain = msgspec.to_builtins(whole())
    assert {"benchmark", "schema", "machine", "date", "cases", "skipped"} <= set(plain)
    assert plain["schema"] == 1
    assert plain["skipped"] == [{"name": "workerd", "reason": "not here"}]


def test_the_table_names_everyone_and_what_was_skipped() -> None:
    lines = table(whole()).splitlines()
    assert lines[1].split()[:4] == ["one", "ours", "6", "[5,"]
    assert "ours 20x" in lines[2]
    assert lines[3] == "one, where the time goes: guest_us 1,234"
    assert lines[4] == "skipped workerd: not here"


def test_names_beside_a_figure_are_what_most_rounds_gave() -> None:
    taken = [(1.0, {"tier": "copy"}), (2.0, {"tier": "share"}), (3.0, {"tier": "share"})]
    document = case_document("one", {}, "ms", "lower", {"ours": taken}, 1)
    assert document["ours"]["tier"] == "share"
    report = Report(benchmark="hose", machine={}, date="", seed=1, full=False, cases=[document])
    assert "tier=share" in table(report)
