"""Workflows while members cannot reach each other, disagree about who is there, or have clocks that are off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.continuum_rig import Continuum, sleep_input, spec
from tests.integration.daemon import patience

_SLEEPER = (
    {"name": "sleep", "function": "cmd-sleep", "needs": ["kind:cloud"]},
    {"name": "after", "function": "echo", "after": ["sleep"]},
)
SKEWS_S = (0.0, 5.0, -5.0, 2.5)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Continuum]:
    folder: Path = tmp_path_factory.mktemp("odd")
    made = Continuum(folder, ("edge", "cloud", "cloud", "ground"), skews_s=SKEWS_S)
    for guest in ("echo", "cmd_sleep"):
        assert made.origin.deploy(guest).status == 201
    made.deploy(spec("sleeper", *_SLEEPER))
    yield made
    made.stop()


def _together(made: Continuum) -> None:
    """All reach each other again, and know it."""
    made.cut()
    for node in made.nodes:
        for _ in patience():
            peers = node.request("GET", "/v1/peers").json()["peers"]
            if [one["state"] for one in peers] == ["alive"] * (len(made.nodes) - 1):
                break
        else:
            raise AssertionError(peers)


@pytest.mark.serial  # its deadline is short
def test_clocks_that_are_off_shorten_and_lengthen_no_run(odd: Continuum) -> None:
    run_id = odd.start("sleeper", sleep_input(500), **{"Edgeagent-Deadline-Ms": "4000"})
    view = odd.ended(run_id)
    assert view["state"] == "succeeded", view
    assert odd.ids.index(view["steps"][0]["node"]) in {1, 2}, "whose clocks are 5 s off"
    assert view["created_at"] <= view["finished_at"], "by the origin's clock"
    begun = time.monotonic()
    reply = odd.origin.request(
        "POST", "/workflows/sleeper", sleep_input(60_000), {"Edgeagent-Deadline-Ms": "3000"}
    )
    assert (reply.status, reply.slug) == (504, "deadline-exceeded")
    assert 2.5 < time.monotonic() - begun < 8.0
    assert "the run had 3000 ms" in reply.json()["detail"]
    for node in odd.nodes:
        node.wait_metric("edgeagent_runs_held", 0)


def test_a_holder_that_nobody_reaches_any_more_is_replaced_and_changes_nothing(odd: Continuum) -> None:
    run_id = odd.start("sleeper", sleep_input(1500))
    victim = odd.running_at(run_id, "sleep")
    assert victim in {1, 2}
    odd.cut(*((victim, other) for other in range(4) if other != victim))
    try:
        view = odd.ended(run_id)
        assert view["state"] == "succeeded", view
        assert view["steps"][0]["node"] == odd.ids[3 - victim]
        assert [one["event"] for one in view["decisions"]].count("taken-over") == 1
    finally:
        _together(odd)
    odd.nodes[victim].wait_metric("edgeagent_runs_held", 0)
    after = odd.view(run_id)
    assert (after["epoch"], after["finished_at"]) == (view["epoch"], view["finished_at"])
    assert after["decisions"] == view["decisions"]


def test_a_run_whose_origin_is_cut_off_ends_and_its_result_waits(odd: Continuum) -> None:
    run_id = odd.start("sleeper", sleep_input(1500))
    odd.running_at(run_id, "sleep")
    odd.cut(*((0, other) for other in range(1, 4)))
    for _ in patience():
        found = [node.request("GET", f"/v1/runs/{run_id}") for node in odd.nodes[1:]]
        if any(one.status == 200 and one.json()["state"] == "succeeded" for one in found):
            break
    else:
        raise AssertionError([one.body for one in found])
    _together(odd)
    view = odd.ended(run_id)
    assert view["state"] == "succeeded", view
    assert odd.origin.request("GET", f"/v1/runs/{run_id}/output").body == b"up"


def test_a_result_waits_for_its_contact_longer_than_the_deadline(odd: Continuum) -> None:
    """The run ends in time at a node that is out of contact by the plan until after the deadline."""
    deadline = {"Edgeagent-Deadline-Ms": "4000"}
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(odd.origin.request, "POST", "/workflows/sleeper", sleep_input(1000), deadline)
        for _ in patience():
            runs = odd.origin.request("GET", "/v1/runs?limit=1").json()["runs"]
            if runs[0]["state"] == "running" and runs[0]["steps"][0]["state"] == "running":
                break
        run_id = runs[0]["id"]
        odd.cut(*((0, other) for other in range(1, 4)), planned_s=1)
        reply = waits.result()
    assert (reply.status, reply.slug) == (504, "deadline-exceeded")
    assert "is out of contact" in reply.json()["detail"]
    assert run_id in reply.json()["hint"]
    assert odd.view(run_id)["state"] == "running"
    _together(odd)
    view = odd.ended(run_id)
    assert view["state"] == "succeeded", view
    assert odd.origin.request("GET", f"/v1/runs/{run_id}/output").body == b"up"


def test_a_holder_that_is_back_too_late_is_not_waited_for(odd: Continuum) -> None:
    run_id = odd.start("sleeper", sleep_input(1500))
    holder = odd.running_at(run_id, "sleep")
    odd.cut(*((holder, other) for other in range(4) if other != holder), planned_s=3600)
    try:
        view = odd.ended(run_id)
        assert view["state"] == "succeeded", view
        taken = [one["why"] for one in view["decisions"] if one["event"] == "taken-over"]
        assert taken == ["its holder went out of contact for too long"]
    finally:
        _together(odd)


def test_guardian_and_holder_that_do_not_reach_each_other_end_a_run_once(odd: Continuum) -> None:
    """All others reach both, so membership holds both alive; the guardian cannot know, and goes on by itself."""
    run_id = odd.start("sleeper", sleep_input(1500))
    holder = odd.running_at(run_id, "sleep")
    odd.cut((0, holder))
    try:
        view = odd.ended(run_id)
        assert view["state"] == "succeeded", view
    finally:
        _together(odd)
    for node in odd.nodes:
        node.wait_metric("edgeagent_runs_held", 0)
    after = odd.view(run_id)
    assert (after["epoch"], after["finished_at"]) == (view["epoch"], view["finished_at"])
    assert odd.origin.request("GET", f"/v1/runs/{run_id}/output").body == b"up"
