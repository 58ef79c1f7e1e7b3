"""Nodes that die, stand still, are full or come back while workflows run over them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.continuum_rig import Continuum, sleep_input, spec
from tests.integration.daemon import patience

# The sleeper runs on a cloud node; there are two of them.
_SLEEPER = (
    {"name": "sleep", "function": "cmd-sleep", "needs": ["kind:cloud"]},
    {"name": "after", "function": "echo", "after": ["sleep"]},
)


@pytest.fixture
def four(tmp_path: Path) -> Iterator[Continuum]:
    made = Continuum(tmp_path, ("edge", "cloud", "cloud", "ground"))
    for guest in ("echo", "add1", "cmd_sleep"):
        assert made.origin.deploy(guest).status == 201
    made.deploy(spec("sleeper", *_SLEEPER))
    yield made
    made.stop()


def test_the_node_that_executes_a_step_is_killed_and_the_run_succeeds(four: Continuum) -> None:
    run_id = four.start("sleeper", sleep_input(1500))
    victim = four.running_at(run_id, "sleep")
    assert victim in {1, 2}
    four.nodes[victim].kill()
    view = four.ended(run_id)
    assert view["state"] == "succeeded", view
    sleep = view["steps"][0]
    assert sleep["node"] == four.ids[3 - victim]
    assert sleep["attempts"] >= 1
    taken = [one for one in view["decisions"] if one["event"] == "taken-over"]
    assert taken
    assert taken[0]["from"] == four.ids[victim]
    assert four.origin.request("GET", f"/v1/runs/{run_id}/output").body == b"up"


def test_a_node_that_is_dead_before_a_step_is_passed_over(four: Continuum) -> None:
    four.nodes[1].kill()  # nobody has noticed yet
    run_id = four.start("sleeper", sleep_input(10))
    view = four.ended(run_id)
    assert view["state"] == "succeeded", view
    assert view["steps"][0]["node"] == four.ids[2]


def test_a_node_that_dies_after_its_step_takes_nothing_with_it(four: Continuum) -> None:
    steps = (
        {"name": "early", "function": "add1", "needs": ["n1"]},
        {"name": "sleep", "function": "cmd-sleep", "after": ["early"], "needs": ["n2"]},
    )
    four.deploy(spec("early", *steps))
    # add1 adds to every byte: the sleep is that of the bytes after it.
    given = bytes((one - 1) % 256 for one in sleep_input(700))
    run_id = four.start("early", given)
    assert four.running_at(run_id, "sleep") == 2
    four.nodes[1].kill()
    view = four.ended(run_id)
    assert view["state"] == "succeeded", view
    assert [one["node"] for one in view["steps"]] == [four.ids[1], four.ids[2]]


def test_the_origin_is_killed_and_finds_the_result_when_it_is_back(four: Continuum) -> None:
    key = {"Idempotency-Key": "kept"}
    four.deploy(spec("quick", {"name": "only", "function": "echo"}))
    finished = four.start("quick", b"x", **key)
    assert four.ended(finished)["state"] == "succeeded"
    run_id = four.start("sleeper", sleep_input(800))
    four.running_at(run_id, "sleep")
    four.origin.listen = f"127.0.0.1:{four.origin.port}"
    four.origin.kill()
    four.origin.start()
    view = four.ended(run_id)
    assert view["state"] == "succeeded", view
    assert four.start("quick", b"x", **key) == finished, "keys outlive the process"


def test_holder_and_guardian_die_at_once_and_the_origin_goes_on(four: Continuum) -> None:
    steps = (
        {"name": "early", "function": "add1", "needs": ["kind:ground"]},
        {"name": "sleep", "function": "cmd-sleep", "after": ["early"], "needs": ["kind:cloud"]},
    )
    four.deploy(spec("pair", *steps))
    given = bytes((one - 1) % 256 for one in sleep_input(3000))
    run_id = four.start("pair", given)
    holder = four.running_at(run_id, "sleep")
    for victim in (holder, 3):  # the ground node gave it the run
        four.nodes[victim].kill()
    view = four.ended(run_id)
    assert view["state"] == "succeeded", view
    assert view["epoch"] >= 3
    assert [one["why"] for one in view["decisions"] if one["event"] == "taken-over"] == [
        "its holder and its guardian died"
    ]


@pytest.mark.parametrize("back", ["holder", "guardian", "origin"])
def test_a_run_whose_nodes_all_died_goes_on_when_any_of_them_is_back(four: Continuum, back: str) -> None:
    steps = (
        {"name": "early", "function": "add1", "needs": ["kind:ground"]},
        {"name": "sleep", "function": "cmd-sleep", "after": ["early"]},
    )
    four.deploy(spec("three", *steps, deadline_ms=40_000))
    given = bytes((one - 1) % 256 for one in sleep_input(700))
    run_id = four.start("three", given)
    four.running_at(run_id, "sleep")
    view = four.view(run_id)
    holder, ground = four.ids.index(view["holder"]), 3
    victims = {"origin": 0, "guardian": ground, "holder": holder}
    for number in set(victims.values()):
        four.nodes[number].kill()
    node = four.nodes[victims[back]]
    node.start()
    for _ in patience():
        reply = node.request("GET", f"/v1/runs/{run_id}")
        if reply.status == 200 and reply.json()["state"] == "succeeded":
            return
    raise AssertionError((victims, reply.json(), node.log_text()))


def test_who_follows_a_run_at_a_node_that_it_leaves_is_told_where_it_is(four: Continuum) -> None:
    steps = (
        {"name": "early", "function": "add1", "needs": ["kind:ground"]},
        {"name": "sleep", "function": "cmd-sleep", "after": ["early"], "needs": ["kind:cloud"]},
    )
    four.deploy(spec("left", *steps))
    run_id = four.start("left", bytes((one - 1) % 256 for one in sleep_input(1500)))
    holder = four.running_at(run_id, "sleep")
    text = (
        four.nodes[3].request("GET", f"/v1/runs/{run_id}/events").body.decode()
    )  # ends though the run goes on
    last = text.strip().split("\n\n")[-1]
    assert "event: moved" in last
    assert four.ids[0] in last
    assert four.ids[holder] in last
    assert four.ended(run_id)["state"] == "succeeded"


def test_the_origin_dies_for_good_and_its_run_still_ends(four: Continuum) -> None:
    steps = (
        {"name": "any", "function": "cmd-sleep"},
        {"name": "then", "function": "echo", "after": ["any"]},
    )
    four.deploy(spec("orphan", *steps, deadline_ms=30_000))
    run_id = four.start("orphan", sleep_input(1500))
    four.running_at(run_id, "any")
    holder = four.ids.index(four.view(run_id)["holder"])
    four.origin.kill()
    del four.nodes[0], four.ids[0]
    for _ in patience():
        views = [node.request("GET", f"/v1/runs/{run_id}") for node in four.nodes]
        if any(one.status == 200 and one.json()["state"] == "succeeded" for one in views):
            return
    raise AssertionError((holder, [one.json() for one in views]))


def test_a_holder_that_stood_still_comes_back_and_changes_nothing(four: Continuum) -> None:
    run_id = four.start("sleeper", sleep_input(1500))
    victim = four.running_at(run_id, "sleep")
    stopped = four.nodes[victim].process
    stopped.send_signal(signal.SIGSTOP)
    try:
        view = four.ended(run_id)
    finally:
        stopped.send_signal(signal.SIGCONT)
    assert view["state"] == "succeeded", view
    assert view["steps"][0]["node"] == four.ids[3 - victim]
    before = (view["epoch"], view["finished_at"], view["decisions"])
    # What stood still goes on, is told that the run has ended, and lets go of it.
    four.nodes[victim].wait_metric("edgeagent_runs_held", 0)
    after = four.view(run_id)
    assert (after["epoch"], after["finished_at"], after["decisions"]) == before


def test_a_full_node_sends_on_to_the_next(tmp_path: Path) -> None:
    made = Continuum(tmp_path, ("edge", "cloud", "cloud"), "runtime.workers=1")
    try:
        assert made.origin.deploy("cmd_sleep").status == 201
        steps = {"name": "sleep", "function": "cmd-sleep", "needs": ["kind:cloud"]}
        made.deploy(spec("crowd", steps, deadline_ms=30_000))
        runs = [made.start("crowd", sleep_input(700)) for _ in range(12)]
        views = [made.ended(one) for one in runs]
        assert {one["state"] for one in views} == {"succeeded"}, views
        assert {one["steps"][0]["node"] for one in views} == set(made.ids[1:])
        assert sum(node.metric("edgeagent_reservations_refused_total") for node in made.nodes[1:]) > 0
    finally:
        made.stop()


def test_nodes_that_passed_runs_on_have_room_for_more(tmp_path: Path) -> None:
    made = Continuum(tmp_path, ("edge", "cloud", "ground"), "placement.runs_max=3")
    try:
        assert made.origin.deploy("echo").status == 201
        steps = (
            {"name": "there", "function": "echo", "needs": ["kind:cloud"]},
            {"name": "on", "function": "echo", "after": ["there"], "needs": ["kind:ground"]},
        )
        made.deploy(spec("passing", *steps))
        for _ in range(8):
            reply = made.origin.request("POST", "/workflows/passing", b"x")
            assert reply.body == b"x"
            for node in made.nodes[1:]:
                node.wait_metric("edgeagent_runs_held", 0)
        # Copies are let go of when the guardian has heard that the run ended.
        for node in made.nodes[1:]:
            for _ in patience():
                if not [
                    one for one in node.request("GET", "/v1/runs").json()["runs"] if not one["finished_at"]
                ]:
                    break
            else:
                raise AssertionError(node.request("GET", "/v1/runs").json())
        gone = made.nodes[1].request("GET", f"/v1/runs/{reply.headers['edgeagent-run']}")
        assert gone.status == 404
        assert made.ids[0] in gone.json()["hint"], "where it began"
    finally:
        made.stop()


def test_nodes_that_do_not_answer_hold_up_no_run_that_needs_none_of_them(four: Continuum) -> None:
    four.deploy(spec("alone", {"name": "only", "function": "echo", "needs": ["kind:edge"]}))
    others = [node.process for node in four.nodes[1:]]
    for process in others:
        process.send_signal(signal.SIGSTOP)
    try:
        deadline = {"Edgeagent-Deadline-Ms": "5000"}
        for body in (b"x", b"x" * (1 << 20)):
            assert four.origin.request("POST", "/workflows/alone", body, deadline).status == 200
    finally:
        for process in others:
            process.send_signal(signal.SIGCONT)


def test_what_is_not_to_go_elsewhere_stays(tmp_path: Path) -> None:
    made = Continuum(tmp_path, ("edge", "cloud"), "placement.forward=false")
    try:
        assert made.origin.deploy("echo").status == 201
        made.deploy(spec("away", {"name": "only", "function": "echo", "needs": ["kind:cloud"]}))
        reply = made.origin.request("POST", "/workflows/away", b"x")
        assert reply.status == 503
        assert reply.json()["cause"]["removed"]["excluded"] == 1
        told = made.origin.request("GET", "/v1/placement?workflow=away").json()["steps"][0]["candidates"]
        assert "placement.forward is false here" in [one["detail"] for one in told]
        assert made.origin.deploy("add1").status == 201
        assert made.nodes[1].invoke("add1", b"x").status == 404
    finally:
        made.stop()


def test_nodes_that_are_gone_bind_before_what_the_others_are(four: Continuum) -> None:
    for victim in (1, 2):
        four.nodes[victim].kill()
    four.origin.wait_metric("edgeagent_mesh_members_dead", 2)
    reply = four.origin.request("POST", "/workflows/sleeper", sleep_input(1))
    assert (reply.status, reply.slug) == (503, "run-failed")
    assert reply.json()["cause"]["constraint"] == "excluded"


def test_full_nodes_refuse_and_the_run_says_who_was_asked(tmp_path: Path) -> None:
    made = Continuum(tmp_path, ("edge", "cloud"), "placement.guest_work=false")
    try:
        assert made.origin.deploy("echo").status == 201
        made.deploy(spec("full", {"name": "only", "function": "echo", "needs": ["kind:cloud"]}))
        reply = made.origin.request("POST", "/workflows/full", b"x")
        assert (reply.status, reply.slug) == (503, "run-failed")
        assert "takes no work" in reply.json()["cause"]["hint"] + reply.json()["detail"]
    finally:
        made.stop()


def test_unsigned_functions_stay_where_signatures_are_asked_for(four: Continuum) -> None:
    # On loopback without keys unsigned functions travel; what a user deployed under a name is never replaced.
    assert four.nodes[1].deploy("add1", "echo").status == 201
    four.deploy(spec("named", {"name": "only", "function": "echo", "needs": ["n1"]}))
    reply = four.origin.request("POST", "/workflows/named", b"x")
    assert reply.status == 503
    assert "another echo is deployed" in str(reply.json())
