"""Chains of functions through HTTP and the CLI: their data stay on the node, and every step tells how they came."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeagent import native
from edgeagent.bench.hose_guests import consumer, expected_sum, producer, request
from tests.integration.daemon import WASM, Daemon, cli

MIB = 1 << 20


@pytest.fixture(scope="module")
def chained(daemon: Daemon) -> Daemon:
    for name, wasm in (("produce", producer()), ("consume", consumer())):
        assert daemon.request("PUT", f"/v1/functions/{name}", wasm, WASM).status == 201
    for name in ("add1", "trap", "cmd_echo"):
        assert daemon.deploy(name).status == 201
    return daemon


@pytest.mark.parametrize(("count", "lent"), [(4096, False), (3 * MIB, False), (3 * MIB, True)])
def test_a_chain_in_one_request(chained: Daemon, count: int, lent: bool) -> None:
    asked = request(count, lent=lent)
    reply = chained.invoke("produce", asked, Edgeagent_Then="consume")
    assert reply.status == 200, reply.body
    assert reply.body == expected_sum(count)
    steps = json.loads(reply.headers["edgeagent-steps"])
    assert [step["function"] for step in steps] == ["produce", "consume"]
    assert [step["bytes_in"] for step in steps] == [len(asked), count]
    assert [step["bytes_out"] for step in steps] == [count, 8]
    tier = "copy"
    if native.accelerated and count > MIB:
        tier = "share" if lent else "flip"
    assert steps[1]["hose"] == tier
    assert steps[1]["copied_bytes"] + steps[1]["mapped_bytes"] == count
    assert reply.headers["edgeagent-hose"].startswith(f"{tier};copied=")


def test_the_metrics_count_what_was_moved(chained: Daemon) -> None:
    before = chained.metric("edgeagent_hose_handovers_total")
    moved = chained.metric("edgeagent_hose_mapped_bytes_total") + chained.metric(
        "edgeagent_hose_copied_bytes_total"
    )
    asked = request(2 * MIB, lent=True)
    chained.invoke("produce", asked, Edgeagent_Then="consume")
    assert chained.metric("edgeagent_hose_handovers_total") == before + 2
    after = chained.metric("edgeagent_hose_mapped_bytes_total") + chained.metric(
        "edgeagent_hose_copied_bytes_total"
    )
    assert after == moved + 2 * MIB + len(asked)
    assert chained.metric("edgeagent_hose_loans_refused_total") == 0


def test_a_command_takes_part(chained: Daemon) -> None:
    reply = chained.invoke("add1", b"abc", Edgeagent_Then="cmd-echo, add1")
    assert reply.status == 200, reply.body
    assert reply.body == b"cde"
    assert [step["hose"] for step in json.loads(reply.headers["edgeagent-steps"])] == ["copy"] * 3


@pytest.mark.parametrize(("count", "slug"), [(1024, "guest-trap"), (3 * MIB, "guest-bad-output")])
def test_a_step_that_fails_is_named(chained: Daemon, count: int, slug: str) -> None:
    """The second has no room for so large an input."""
    reply = chained.invoke("produce", request(count, lent=True), Edgeagent_Then="trap,consume")
    assert (reply.status, reply.slug) == (500, slug)
    assert reply.json()["function"] == "trap"
    chained.wait_metric("edgeagent_engine_live_instances", 0)


def test_a_deadline_is_for_the_whole_chain(chained: Daemon) -> None:
    assert chained.deploy("loop").status in (200, 201)
    reply = chained.invoke("add1", b"x", Edgeagent_Then="loop", Edgeagent_Deadline_Ms="50")
    assert (reply.status, reply.slug) == (504, "deadline-exceeded")


@pytest.mark.parametrize(
    ("headers", "status", "slug"),
    [
        ({"Edgeagent_Then": "nobody"}, 404, "not-found"),
        ({"Edgeagent_Then": ","}, 400, "bad-request"),
        ({"Edgeagent_Then": ",".join(["add1"] * 33)}, 400, "bad-request"),
        ({"Edgeagent_Then": "add1", "Idempotency_Key": "k"}, 400, "bad-request"),
        ({"Edgeagent_Then": "add1", "Prefer": "respond-async"}, 400, "bad-request"),
    ],
)
def test_what_is_no_chain(chained: Daemon, headers: dict[str, str], status: int, slug: str) -> None:
    reply = chained.invoke("add1", b"x", **headers)
    assert (reply.status, reply.slug) == (status, slug)


def test_the_cli_runs_a_chain(chained: Daemon) -> None:
    done = cli(
        "invoke",
        "add1",
        "--data",
        "abc",
        "--then",
        "cmd-echo",
        "--then",
        "add1",
        "--node",
        chained.url,
        "--json",
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["output_text"] == "cde"
    assert [step["function"] for step in document["steps"]] == ["add1", "cmd-echo", "add1"]
    assert all(step["hose"] == "copy" for step in document["steps"])


def test_a_large_output_of_a_loan_comes_back_whole(chained: Daemon) -> None:
    reply = chained.invoke("produce", request(5 * MIB, lent=True))
    assert reply.status == 200
    assert reply.body == b"\1" * (5 * MIB)
    assert base64.b64encode(reply.body[:3]) == b"AQEB"


@pytest.mark.skipif(not native.accelerated, reason="without the extension everything is copied")
@pytest.mark.parametrize(
    ("text", "tier"), [('{"window_bytes_min": 1000000000}', "copy"), ("{}", "share"), ("not JSON", "share")]
)
def test_a_node_takes_up_its_calibration(
    start_daemon: Callable[..., Daemon], tmp_path: Path, text: str, tier: str
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/hose.json").write_text(text, encoding="utf-8")
    daemon = start_daemon()
    for name, wasm in (("produce", producer()), ("consume", consumer())):
        assert daemon.request("PUT", f"/v1/functions/{name}", wasm, WASM).status == 201
    reply = daemon.invoke("produce", request(3 * MIB, lent=True), Edgeagent_Then="consume")
    assert json.loads(reply.headers["edgeagent-steps"])[1]["hose"] == tier
    assert ("calibration ignored" in daemon.log_text()) is (text == "not JSON")
