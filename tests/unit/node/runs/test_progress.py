"""What comes next in a run."""

from __future__ import annotations

import pytest

from edgeagent.model.errors import BadRequest
from edgeagent.node.runs.progress import inputs_of, needed, ready_steps, revert_lost, settle_skipped
from edgeagent.node.runs.record import RunRecord, read_record
from tests.unit.node.runs.samples import output, record

_DIAMOND = (
    {"name": "a"},
    {"name": "b", "after": ["a"], "when": "bytes > 2"},
    {"name": "c", "after": ["a"], "when": "bytes <= 2"},
    {"name": "after-c", "after": ["c"]},
    {"name": "end", "after": ["b", "c"]},
)


def _done(run: RunRecord, name: str, text: str) -> None:
    step = run.step(name)
    step.state, step.output, step.bytes_out = "succeeded", output(text), len(text)


def test_steps_are_ready_when_all_before_them_are_over() -> None:
    run = record(*_DIAMOND)
    assert [one.name for one in ready_steps(run)] == ["a"]
    assert inputs_of(run, "a") == [run.input]
    _done(run, "a", "xyz")
    assert settle_skipped(run) == ["c", "after-c"]
    assert [one.name for one in ready_steps(run)] == ["b"]
    _done(run, "b", "q")
    assert settle_skipped(run) == []
    assert [one.name for one in ready_steps(run)] == ["end"]
    assert inputs_of(run, "end") == [output("q")]


def test_what_the_rest_needs_is_its_inputs_and_the_runs_own() -> None:
    run = record({"name": "a"}, {"name": "b", "after": ["a"]}, {"name": "c", "after": ["b"]})
    _done(run, "a", "x")
    _done(run, "b", "y")
    assert set(needed(run)) == {output("y").sha256, run.input.sha256}


def test_lost_outputs_begin_again_as_far_back_as_needed() -> None:
    run = record({"name": "a"}, {"name": "b", "after": ["a"]}, {"name": "c", "after": ["b"]})
    _done(run, "a", "x")
    _done(run, "b", "y")
    run.step("c").state = "running"
    there = run.copy()
    assert revert_lost(there, lambda ref: ref.sha256 == output("y").sha256) == ["c"]
    assert [one.state for one in there.steps] == ["succeeded", "succeeded", "waiting"]
    assert revert_lost(run, lambda ref: False) == ["c", "b", "a"]
    assert [one.state for one in run.steps] == ["waiting"] * 3


def test_records_travel_and_nonsense_is_refused() -> None:
    run = record(*_DIAMOND)
    again = read_record(run.encode())
    assert again == run
    again.rebase(5000)
    assert again.deadline_ms == 5000 + again.left_ms
    for bad in (b"", b"{}", b"\xff", run.encode().replace(b'"wire":1', b'"wire":9')):
        with pytest.raises(BadRequest):
            read_record(bad)
    run.steps.pop()
    with pytest.raises(BadRequest, match="do not fit"):
        read_record(run.encode())


def test_the_decision_log_is_bounded() -> None:
    run = record({"name": "a"})
    for number in range(2000):
        run.decided({"n": number})
    assert len(run.decisions) == 512
    assert run.decisions[-1] == {"n": 1999}
