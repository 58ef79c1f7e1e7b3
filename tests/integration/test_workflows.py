"""Workflows over real daemons: where steps run, what they return, and what happens when nodes die."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.continuum_rig import Continuum, sleep_input, spec
from tests.integration.daemon import cli, patience


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Continuum]:
    made = Continuum(tmp_path_factory.mktemp("trio"), ("edge", "cloud", "ground"))
    for guest in ("echo", "add1", "trap", "cmd_sleep", "cmd_exit"):
        assert made.origin.deploy(guest).status == 201
    yield made
    made.stop()


def _items(*items: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(one)) + one for one in items)


def test_steps_run_where_they_ask_for_and_the_result_comes_back(trio: Continuum) -> None:
    steps = (
        {"name": "first", "function": "add1", "needs": ["kind:cloud"]},
        {"name": "second", "function": "add1", "after": ["first"], "needs": ["kind:ground"]},
        {"name": "third", "function": "add1", "after": ["second"], "needs": ["kind:edge"]},
    )
    assert trio.deploy(spec("around", *steps)).status == 201
    reply = trio.origin.request("POST", "/workflows/around", b"\x01\x02")
    assert (reply.status, reply.body) == (200, b"\x04\x05")
    told = json.loads(reply.headers["edgeagent-steps"])
    assert [one["node"] for one in told] == [trio.ids[1], trio.ids[2], trio.ids[0]]
    assert all(one["why"] and one["measured_ms"] > 0 and one["predicted_ms"] > 0 for one in told)
    view = trio.view(reply.headers["edgeagent-run"])
    assert view["state"] == "succeeded"
    assert base64.b64decode(view["output_base64"]) == b"\x04\x05"
    assert any(one["event"] == "planned" for one in view["decisions"])


def test_large_data_pass_between_hosts_by_hose(trio: Continuum) -> None:
    steps = (
        {"name": "there", "function": "echo", "needs": ["kind:cloud"]},
        {"name": "back", "function": "echo", "after": ["there"], "needs": ["kind:edge"]},
    )
    trio.deploy(spec("large", *steps))
    body = bytes(range(256)) * 8192
    before = [node.metric("edgeagent_hose_handovers_total") for node in trio.nodes[:2]]
    reply = trio.origin.request("POST", "/workflows/large", body)
    assert reply.body == body
    assert [one["hose"] for one in json.loads(reply.headers["edgeagent-steps"])] == ["wire", "wire"]
    assert trio.nodes[1].metric("edgeagent_hose_remote_received_bytes_total") >= len(body)
    after = [node.metric("edgeagent_hose_handovers_total") for node in trio.nodes[:2]]
    assert after == [count + 1 for count in before], "each node counts what it ran"


def test_steps_on_one_node_are_counted_with_their_bytes(trio: Continuum) -> None:
    steps = (
        {"name": "one", "function": "echo", "needs": ["kind:edge"]},
        {"name": "two", "function": "echo", "after": ["one"], "needs": ["kind:edge"]},
    )
    trio.deploy(spec("near", *steps))

    def counted() -> tuple[float, float]:
        moved = ("edgeagent_hose_copied_bytes_total", "edgeagent_hose_mapped_bytes_total")
        return trio.origin.metric("edgeagent_hose_handovers_total"), sum(map(trio.origin.metric, moved))

    before = counted()
    body = bytes(1 << 20)
    assert trio.origin.request("POST", "/workflows/near", body).body == body
    assert counted() == (before[0] + 2, before[1] + 2 * len(body))


def test_branches_join_and_items_fan_out(trio: Continuum) -> None:
    steps = (
        {"name": "all", "function": "echo"},
        {"name": "each", "function": "add1", "after": ["all"], "fan_out": "items"},
        {"name": "never", "function": "trap", "after": ["all"], "when": "bytes > 1000000"},
        {"name": "join", "function": "echo", "after": ["each", "never"]},
    )
    trio.deploy(spec("fan", *steps))
    reply = trio.origin.request("POST", "/workflows/fan", _items(b"\x01", b"\x02\x03", b"\x04"))
    assert reply.body == _items(b"\x02", b"\x03\x04", b"\x05")
    states = {one["name"]: one["state"] for one in json.loads(reply.headers["edgeagent-steps"])}
    assert states == {"all": "succeeded", "each": "succeeded", "never": "skipped", "join": "succeeded"}


def test_a_step_that_fails_ends_the_run_with_its_reason(trio: Continuum) -> None:
    steps = (
        {"name": "good", "function": "echo"},
        {"name": "bad", "function": "trap", "after": ["good"], "retries": 1},
    )
    trio.deploy(spec("failing", *steps))
    reply = trio.origin.request("POST", "/workflows/failing", b"x")
    assert (reply.status, reply.slug) == (500, "run-failed")
    problem = reply.json()
    assert problem["step"] == "bad"
    assert problem["cause"]["type"].endswith("guest-trap")
    view = trio.view(problem["run"])
    assert [one["attempts"] for one in view["steps"] if one["name"] == "bad"] == [2]


@pytest.mark.parametrize(
    ("step", "constraint"),
    [
        ({"needs": ["gpu"]}, "gpu"),
        ({"needs": ["kind:satellite"]}, "kind"),
        ({"data_source": "eo-1"}, "data-source"),
    ],
)
def test_no_feasible_node_names_what_binds(trio: Continuum, step: dict[str, object], constraint: str) -> None:
    trio.deploy(spec("nowhere", {"name": "only", "function": "echo", **step}))
    reply = trio.origin.request("POST", "/workflows/nowhere", b"x")
    assert (reply.status, reply.slug) == (503, "run-failed")
    assert reply.json()["cause"]["constraint"] == constraint


def test_a_run_keeps_within_its_budget(trio: Continuum) -> None:
    step = {"name": "one", "function": "cmd-sleep", "needs": ["kind:cloud"]}
    trio.deploy(spec("dear", step, {"name": "two", "function": "echo", "after": ["one"]}, budget_usd=1e-12))
    refused = trio.origin.request("POST", "/workflows/dear", sleep_input(1))
    assert refused.status == 503, refused.body
    assert refused.json()["cause"]["constraint"] == "budget"
    trio.deploy(spec("cheap", step, {"name": "two", "function": "echo", "after": ["one"]}, budget_usd=1.0))
    done = trio.origin.request("POST", "/workflows/cheap", sleep_input(30))
    assert done.status == 200, done.body
    view = trio.view(done.headers["edgeagent-run"])
    assert 0 < view["steps"][0]["cost_usd"] <= view["cost_usd"] < 1.0
    assert 0 < view["steps"][0]["energy_j"] <= view["energy_j"]


def test_specs_that_cannot_be_are_refused(trio: Continuum) -> None:
    circle = (
        {"name": "a", "function": "echo", "after": ["b"]},
        {"name": "b", "function": "echo", "after": ["a"]},
    )
    assert trio.deploy(spec("circle", *circle)).status == 422
    trio.deploy(spec("unknown", {"name": "a", "function": "no-such-function"}))
    assert trio.origin.request("POST", "/workflows/unknown").status == 404
    assert trio.origin.request("POST", "/workflows/no-such-workflow").status == 404
    assert trio.origin.request("GET", "/v1/runs/0123").status == 404


def test_a_run_out_of_time_is_timed_out(trio: Continuum) -> None:
    trio.deploy(spec("slow", {"name": "sleep", "function": "cmd-sleep"}, deadline_ms=300))
    reply = trio.origin.request("POST", "/workflows/slow", sleep_input(5000))
    assert (reply.status, reply.slug) == (504, "deadline-exceeded")
    again = {"name": "sleep", "function": "cmd-sleep", "timeout_ms": 100, "retries": 16}
    trio.deploy(spec("slow-again", again, deadline_ms=600))
    reply = trio.origin.request("POST", "/workflows/slow-again", sleep_input(5000))
    assert reply.slug == "deadline-exceeded"
    assert reply.json()["step"] == "sleep"


def test_more_at_once_than_there_is_room_for_takes_turns(trio: Continuum) -> None:
    # A node takes a few calls at once; 30 of a tenth of a second each, as items and as steps of one stage, wait.
    pinned = {"function": "cmd-sleep", "needs": ["kind:cloud"]}
    trio.deploy(spec("crowd-of-items", {"name": "each", "fan_out": "items", **pinned}))
    reply = trio.origin.request("POST", "/workflows/crowd-of-items", _items(*[sleep_input(100)] * 30))
    assert (reply.status, reply.body) == (200, _items(*[b"up"] * 30))
    trio.deploy(spec("crowd-of-steps", *({"name": f"s{i}", **pinned} for i in range(30))))
    reply = trio.origin.request("POST", "/workflows/crowd-of-steps", sleep_input(100))
    assert (reply.status, reply.body) == (200, _items(*[b"up"] * 30))


def test_what_takes_too_long_is_tried_again_and_named(trio: Continuum) -> None:
    step = {"name": "sleep", "function": "cmd-sleep", "timeout_ms": 200, "retries": 2}
    for name, more, body in (
        ("long-step", {}, sleep_input(30_000)),
        ("long-item", {"fan_out": "items"}, _items(sleep_input(1), sleep_input(30_000))),
    ):
        trio.deploy(spec(name, {**step, **more}))
        reply = trio.origin.request("POST", f"/workflows/{name}", body)
        assert (reply.status, reply.slug) == (500, "run-failed")
        assert reply.json()["cause"]["status"] == 504
        assert "step 'sleep' had not ended after 200 ms, which is timeout_ms" in reply.json()["detail"]
        if not more:
            assert trio.view(reply.json()["run"])["steps"][0]["attempts"] == 3


def test_an_item_that_fails_is_tried_again_by_itself(trio: Continuum) -> None:
    before = sum(node.metric("edgeagent_invocations_total") for node in trio.nodes)
    trio.deploy(spec("one-bad", {"name": "each", "function": "trap", "fan_out": "items", "retries": 2}))
    assert trio.origin.request("POST", "/workflows/one-bad", _items(b"x")).slug == "run-failed"
    assert sum(node.metric("edgeagent_invocations_total") for node in trio.nodes) - before == 3


def test_long_chains_are_planned_in_little_time(trio: Continuum) -> None:
    steps = [{"name": f"s{i}", "function": "echo", "after": [f"s{i - 1}"] if i else []} for i in range(64)]
    trio.deploy(spec("long", *steps, deadline_ms=30_000))
    assert trio.origin.request("POST", "/workflows/long", b"x").body == b"x"


def test_a_workflow_may_arrive_at_any_node(trio: Continuum) -> None:
    # Neither the workflow nor its functions are deployed where it is asked for.
    assert trio.origin.deploy("echo", "only-there").status == 201
    trio.deploy(spec("anywhere", {"name": "only", "function": "only-there", "needs": ["kind:ground"]}))
    reply = trio.nodes[1].request("POST", "/workflows/anywhere", b"x")
    assert (reply.status, reply.body) == (200, b"x")
    view = trio.view(reply.headers["edgeagent-run"], trio.nodes[1])
    assert (view["origin"], view["steps"][0]["node"]) == (trio.ids[1], trio.ids[2])
    told = trio.nodes[2].request("GET", "/v1/placement?workflow=anywhere").json()
    assert told["choices"][0]["node"] == trio.ids[2]
    for node in trio.nodes:
        assert node.request("POST", "/workflows/nowhere-at-all", b"x").status == 404


def test_the_same_key_is_the_same_run(trio: Continuum) -> None:
    trio.deploy(spec("keyed", {"name": "only", "function": "echo"}))
    key = {"Idempotency-Key": "one"}
    first, second = (trio.origin.request("POST", "/workflows/keyed", b"x", key) for _ in range(2))
    assert first.headers["edgeagent-run"] == second.headers["edgeagent-run"]
    together = {"Idempotency-Key": "two"}
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: trio.start("keyed", b"x", **together), range(8)))
    assert len(ids) == 1
    assert trio.origin.request("POST", "/workflows/keyed", b"y", key).slug == "idempotency-key-reused"


def test_events_tell_what_happens_and_end(trio: Continuum) -> None:
    trio.deploy(spec("told", {"name": "only", "function": "cmd-sleep", "needs": ["kind:cloud"]}))
    run_id = trio.start("told", sleep_input(50))
    text = trio.origin.request("GET", f"/v1/runs/{run_id}/events").body.decode()
    kinds = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert kinds[-1] == "state"
    assert "step" in kinds
    datas = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    assert datas[-1]["state"] == "succeeded"
    again = trio.origin.request(
        "GET", f"/v1/runs/{run_id}/events", None, {"Last-Event-ID": "1"}
    ).body.decode()
    assert "id: 1\n" not in again
    assert "id: 2\n" in again


@pytest.mark.parametrize(("trigger", "at_least"), [({"every_s": 1}, 2), ({"contact_with": ""}, 1)])
def test_triggers_begin_runs(trio: Continuum, trigger: dict[str, object], at_least: int) -> None:
    if "contact_with" in trigger:
        trigger = {"contact_with": trio.ids[1]}  # which is in sight already
    name = next(iter(trigger)).replace("_", "-")
    document = json.loads(spec(name, {"name": "only", "function": "echo"})) | {"trigger": [trigger]}
    assert trio.deploy(json.dumps(document).encode()).status == 201
    for _ in patience():
        runs = trio.origin.request("GET", f"/v1/runs?workflow={name}").json()["runs"]
        if sum(one["state"] == "succeeded" for one in runs) >= at_least:
            break
    else:
        raise AssertionError(runs)
    assert trio.origin.request("DELETE", f"/v1/workflows/{name}").status == 204


def test_the_command_deploys_runs_lists_and_shows(trio: Continuum, tmp_path: Path) -> None:
    file = tmp_path / "hello.toml"
    file.write_text(
        '[workflow]\nname = "typed"\n[[step]]\nname = "only"\nfunction = "echo"\nneeds = ["kind:cloud"]\n'
    )
    url = trio.origin.url
    assert cli("workflow", "deploy", str(file), node=url).returncode == 0
    ran = cli("workflow", "run", "typed", "--data", "hey", "--json", node=url)
    view = json.loads(ran.stdout)
    assert (ran.returncode, view["output_text"], view["state"]) == (0, "hey", "succeeded")
    plain = cli("workflow", "run", "typed", "--data", "hey", node=url)
    assert plain.stdout == b"hey"
    assert b"only: succeeded" in plain.stderr
    shown = cli("workflow", "status", view["id"], node=url)
    assert b"only" in shown.stdout
    assert shown.returncode == 0
    names = [
        one["name"] for one in json.loads(cli("workflow", "list", "--json", node=url).stdout)["workflows"]
    ]
    assert "typed" in names
    runs = json.loads(cli("workflow", "list", "--runs", "--json", node=url).stdout)["runs"]
    assert view["id"] in [one["id"] for one in runs]
    assert cli("workflow", "run", "no-such", node=url).returncode == 1


def test_place_explains_every_candidate(trio: Continuum, tmp_path: Path) -> None:
    url = trio.origin.url
    told = json.loads(cli("place", "echo", "--explain", "--json", node=url).stdout)
    assert {one["node"] for one in told["steps"][0]["candidates"]} == set(trio.ids)
    file = tmp_path / "somewhere.json"
    file.write_bytes(spec("somewhere", {"name": "a", "function": "echo", "needs": ["kind:ground"]}))
    told = json.loads(cli("place", "--workflow", str(file), "--json", "--at", "+60", node=url).stdout)
    assert told["choices"][0]["node"] == trio.ids[2]
    removed = {one["node"]: one["removed_by"] for one in told["steps"][0]["candidates"]}
    assert removed[trio.ids[0]]
    assert removed[trio.ids[1]]
    assert not removed[trio.ids[2]]
    file.write_bytes(spec("nowhere", {"name": "a", "function": "echo", "needs": ["gpu"]}))
    none = cli("place", "--workflow", str(file), "--explain", "--json", node=url)
    assert none.returncode == 1
    told = json.loads(none.stdout)
    assert told["problem"]["constraint"] == "gpu"
    assert {one["removed_by"] for one in told["steps"][0]["candidates"]} == {"gpu"}


def test_functions_are_called_where_they_are_not(trio: Continuum) -> None:
    reply = trio.nodes[2].invoke("add1", b"\x07")
    assert (reply.status, reply.body) == (200, b"\x08")
    assert trio.nodes[2].invoke("no-such-function").status == 404
    manifest = '[place]\nneeds = ["kind:cloud"]\n'
    assert trio.origin.deploy("echo", "only-cloud", manifest).status == 201
    reply = trio.origin.invoke("only-cloud", b"up")
    assert (reply.body, reply.headers["edgeagent-node"]) == (b"up", trio.ids[1])
    assert reply.headers["edgeagent-hops"] == "1"
    keyed = [trio.origin.invoke("only-cloud", b"up", Idempotency_Key="k1") for _ in range(2)]
    assert [one.body for one in keyed] == [b"up", b"up"]
    assert keyed[1].headers["idempotency-replayed"] == "true"
    traps = trio.nodes[2].invoke("trap", b"x")
    assert (traps.status, traps.slug) == (500, "guest-trap")
