"""Workflow files: what is accepted, and that each refusal names the key and what would be right."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.model.errors import BadRequest, EdgeError, TooLarge, UnsupportedType, WorkflowRefused
from edgeagent.node.workflow_spec import STEPS_MAX, TRIGGERS_MAX, ordered, parse_workflow

FULL = b"""
[workflow]
name = "wildfire"
deadline_ms = 60000
budget_usd = 0
[[step]]
name = "ingest"
function = "calibrate"
[[step]]
name = "detect"
function = "detect"
after = ["ingest"]
latency_ms_max = 150
data_source = "eo-1"
data_latency_ms_max = 175
timeout_ms = 20000
retries = 2
fan_out = "items"
when = "exit == 0 and bytes > 0"
needs = ["gpu", "kind:satellite"]
args = ["-v"]
[[trigger]]
every_s = 60
[[trigger]]
contact_with = "ground-1"
[[trigger]]
over = [37.5, -120, 400]
"""


def document(*steps: dict[str, Any], **tables: Any) -> dict[str, Any]:
    return {"workflow": {"name": "w"}, "step": [{"name": "a", "function": "f"}, *steps], **tables}


def parsed(raw: Any, content_type: str | None = "application/json") -> Any:
    return parse_workflow(json.dumps(raw).encode(), content_type)


def test_a_full_workflow() -> None:
    workflow = parse_workflow(FULL, "application/toml")
    assert workflow.workflow.deadline_ms == 60_000
    detect = workflow.step[1]
    assert (detect.after, detect.fan_out, detect.args) == (("ingest",), "items", ("-v",))
    assert workflow.step[0].args is None, "the manifest's"
    assert [one.over for one in workflow.trigger] == [(), (), (37.5, -120, 400)]
    as_json = msgspec.json.encode(workflow)
    for kind in ("application/json", "application/json; charset=utf-8", None, ""):
        assert parse_workflow(as_json, kind) == workflow
    for other in ("text/plain", "application/octet-stream", None, "text/x-toml"):
        assert parse_workflow(FULL, other) == workflow


def test_one_step_is_enough() -> None:
    workflow = parsed(document())
    assert workflow.workflow.slo_class == "default"
    assert workflow.trigger == ()


@pytest.mark.parametrize(
    ("data", "kind", "error"),
    [
        (b"[workflow", "application/toml", BadRequest),
        (b"\xff\xfe", None, BadRequest),
        (b"{", None, BadRequest),
        (b"[1]", "application/json", BadRequest),
        (b"[" * 100_000, "application/json", BadRequest),
        (b'{"a": "\xff"}', "application/json", BadRequest),
        (b"x = " + b"9" * 5000, "application/toml", BadRequest),
        (FULL, "image/png", UnsupportedType),
        (b"#" * 300_000, None, TooLarge),
        (b"", None, WorkflowRefused),
        (b"{}", None, WorkflowRefused),
    ],
)
def test_what_is_no_workflow(data: bytes, kind: str | None, error: type[EdgeError]) -> None:
    with pytest.raises(error) as refused:
        parse_workflow(data, kind)
    assert type(refused.value) is error


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (document(steps=[]), "did you mean 'step'?"),
        (document({"name": "b", "functoin": "f"}), "did you mean 'function'?"),
        (document(workflow={"name": "w", "deadline": 5}), "did you mean 'deadline_ms'?"),
        (document({"name": "b", "function": "f", "after": ["aa"]}), "did you mean 'a'?"),
        (document({"name": "a", "function": "g"}), "two steps are named 'a'"),
        (document({"name": "B", "function": "f"}), "step name 'B'"),
        (document({"name": "b", "function": "../f"}), "function name '../f'"),
        (document({"name": "b", "function": "f", "after": ["a", "a"]}), "'a' twice"),
        (document({"name": "b", "function": "f", "fan_out": "all"}), "fan_out"),
        (document({"name": "b", "function": "f", "when": "exit = 0"}), "step 'b': condition"),
        (document({"name": "b", "function": "f", "retries": 17}), "retries = 17 is outside 0..16"),
        (document({"name": "b", "function": "f", "retries": -1}), "retries"),
        (document({"name": "b", "function": "f", "retries": 1.5}), "retries"),
        (document({"name": "b", "function": "f", "timeout_ms": -1}), "timeout_ms"),
        (document({"name": "b", "function": "f", "timeout_ms": "5s"}), "timeout_ms"),
        (document({"name": "b", "function": "f", "data_source": "a b"}), "'a b'"),
        (document({"name": "b", "function": "f", "needs": [""]}), "needs"),
        (document({"name": "b", "function": "f", "needs": ["x"] * 33}), "needs"),
        (document({"name": "b", "function": "f", "args": ["\0"]}), "NUL"),
        (document(workflow={"name": "W"}), "workflow name 'W'"),
        (document(workflow={"name": "w", "deadline_ms": 0}), "deadline_ms = 0"),
        (document(workflow={"name": "w", "budget_usd": -1}), "budget_usd"),
        (document(workflow={"name": "w", "slo_class": ""}), "slo_class"),
        (document(trigger=[{}]), "trigger 1 has nothing"),
        (
            document(trigger=[{"every_s": 5}, {"every_s": 5, "contact_with": "n"}]),
            "trigger 2 has every_s and",
        ),
        (document(trigger=[{"every_s": 0.1}]), "every_s = 0.1"),
        (document(trigger=[{"every_s": -1}]), "every_s = -1"),
        (document(trigger=[{"contact_with": "a b"}]), "'a b'"),
        (document(trigger=[{"over": [1, 2]}]), "latitude in degrees, longitude"),
        (document(trigger=[{"over": [91, 0, 10]}]), "latitude = 91"),
        (document(trigger=[{"over": [0, 181, 10]}]), "longitude = 181"),
        (document(trigger=[{"over": [0, 0, 0]}]), "radius in km = 0"),
        (document(trigger=[{"every_s": 5}] * (TRIGGERS_MAX + 1)), "at most 8 triggers"),
        (document(trigger={"every_s": 5}), "trigger"),
        ({"workflow": {"name": "w"}, "step": []}, "1 to 64 steps"),
        ({"workflow": 1, "step": [3]}, "workflow"),
    ],
)
def test_refusals(raw: Any, said: str) -> None:
    with pytest.raises(WorkflowRefused) as refused:
        parsed(raw)
    assert said in f"{refused.value.message} {refused.value.hint}"
    assert refused.value.status == 422


def test_too_many_steps() -> None:
    steps: list[dict[str, Any]] = [{"name": f"s-{i}", "function": "f"} for i in range(STEPS_MAX)]
    with pytest.raises(WorkflowRefused, match="1 to 64"):
        parsed(document(*steps))
    assert len(parsed(document(*steps[1:])).step) == STEPS_MAX


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("key", ["deadline_ms", "latency_ms_max", "over"])
def test_numbers_that_are_none(number: str, key: str) -> None:
    deadline = number if key == "deadline_ms" else "5"
    latency = number if key == "latency_ms_max" else "5"
    latitude = number if key == "over" else "5.0"
    text = (
        f'[workflow]\nname = "w"\ndeadline_ms = {deadline}\n'
        f'[[step]]\nname = "a"\nfunction = "f"\nlatency_ms_max = {latency}\n'
        f"[[trigger]]\nover = [{latitude}, 0.0, 10.0]\n"
    )
    with pytest.raises(WorkflowRefused, match=number):
        parse_workflow(text.encode(), None)


def test_a_cycle_is_named_in_the_direction_of_the_data() -> None:
    steps: list[dict[str, Any]] = [
        {"name": "b", "function": "f", "after": ["a", "d"]},
        {"name": "c", "function": "f", "after": ["b"]},
        {"name": "d", "function": "f", "after": ["c"]},
        {"name": "e", "function": "f", "after": ["d"]},
    ]
    with pytest.raises(WorkflowRefused) as refused:
        parsed(document(*steps))
    assert refused.value.details["cycle"] == ["b", "c", "d", "b"]
    with pytest.raises(WorkflowRefused, match="b -> b"):
        parsed(document({"name": "b", "function": "f", "after": ["b"]}))


def test_the_order_keeps_what_is_written_where_it_may() -> None:
    steps: list[dict[str, Any]] = [
        {"name": "late", "function": "f", "after": ["early"]},
        {"name": "free", "function": "f"},
        {"name": "early", "function": "f", "after": ["a"]},
    ]
    assert ordered(parsed(document(*steps))) == (0, 2, 3, 1)


@given(st.lists(st.lists(st.integers(0, 11), max_size=4, unique=True), min_size=1, max_size=12))
def test_an_order_or_a_true_cycle(after: list[list[int]]) -> None:
    steps: list[dict[str, Any]] = [
        {"name": f"s{i}", "function": "f", "after": [f"s{j}" for j in before if j < len(after)]}
        for i, before in enumerate(after)
    ]
    raw = {"workflow": {"name": "w"}, "step": steps}
    try:
        order = ordered(parsed(raw))
    except WorkflowRefused as refused:
        cycle = refused.details["cycle"]
        assert cycle[0] == cycle[-1]
        waits = {step["name"]: step["after"] for step in steps}
        assert all(before in waits[behind] for before, behind in itertools.pairwise(cycle))
        return
    place = {steps[i]["name"]: at for at, i in enumerate(order)}
    assert sorted(order) == list(range(len(steps)))
    assert all(place[before] < place[str(step["name"])] for step in steps for before in step["after"])


@given(st.binary(max_size=200), st.sampled_from(["application/toml", "application/json", None]))
def test_any_bytes_are_a_workflow_or_refused(data: bytes, kind: str | None) -> None:
    with pytest.raises((BadRequest, WorkflowRefused)):
        parse_workflow(data, kind)
