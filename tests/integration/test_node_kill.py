"""SIGKILL at any moment: what was acknowledged is there, what was not is old or new and never half."""

from __future__ import annotations

import base64
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.guests import wasm
from tests.integration.node_process import NodeProcess

Start = Callable[..., NodeProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[NodeProcess] = []

    def one(**more: str) -> NodeProcess:
        started.append(NodeProcess(tmp_path, **more))
        return started[-1]

    yield one
    for node in started:
        node.kill()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_a_node_keeps_its_id_and_its_functions(start: Start) -> None:
    node = start()
    first = node.hello["node"]
    assert node.ask("deploy", name="f", guest="add1")["new"]
    node.kill()
    node = start()
    assert node.hello["node"] == first
    assert set(node.ask("list")["functions"]) == {"f"}
    answer = node.ask("invoke", name="f", body=text(b"abc"))
    assert base64.b64decode(answer["output"]) == b"bcd"
    assert answer["cold"]
    assert not node.ask("deploy", name="f", guest="add1")["new"]
    node.stop()
    assert node.process.returncode == 0


def test_a_second_node_on_the_same_state_is_refused(start: Start) -> None:
    node = start()
    second = start()
    assert second.hello["error"]["status"] == 409
    assert str(node.process.pid) in second.hello["error"]["detail"]
    assert second.process.wait(60) == 0
    assert node.ask("list") == {"functions": {}}


def test_accepted_invocations_survive_sigkill(start: Start) -> None:
    node = start(EDGEAGENT_QUEUE_BACKGROUND_MAX="1")
    node.ask("deploy", name="slow", guest="loop")
    node.ask("deploy", name="add", guest="add1")
    # One that never ends keeps the only place, so that all others are still queued at the kill.
    running = node.ask("submit", name="slow", key="s")["id"]
    ids = [node.ask("submit", name="add", body=text(bytes([n])), key=f"k{n}")["id"] for n in range(20)]
    node.kill()
    node = start(EDGEAGENT_QUEUE_BACKGROUND_MAX="4")
    for n, invocation in enumerate(ids):
        done = node.ask("wait", id=invocation)
        assert (done["state"], base64.b64decode(done["output"])) == ("succeeded", bytes([n + 1]))
    assert node.ask("submit", name="add", body=text(b"\0"), key="k0")["id"] == ids[0]
    again = node.ask("invoke", name="add", body=text(b"\0"), key="k0")
    assert (again["replayed"], base64.b64decode(again["output"])) == (True, b"\1")
    assert node.ask("status", id=running)["state"] == "running"  # begun again


def test_an_invocation_that_kills_the_node_is_given_up(start: Start) -> None:
    ids = []
    for round_ in range(3):
        node = start(EDGEAGENT_JOURNAL_ATTEMPTS_MAX="2")
        if round_ == 0:
            node.ask("deploy", name="slow", guest="loop")
            ids.append(node.ask("submit", name="slow")["id"])
        if round_ < 2:
            while node.ask("status", id=ids[0])["state"] != "running":
                pass
            node.kill()
    done = node.ask("wait", id=ids[0])
    assert done["state"] == "failed"
    assert "stopped 2 times" in done["problem"]["detail"]


def test_results_under_a_key_survive_sigkill(start: Start) -> None:
    node = start()
    node.ask("deploy", name="f", guest="add1")
    node.ask("deploy", name="trap", guest="trap")
    body = text(b"a" * 30_000)
    first = node.ask("invoke", name="f", body=body, key="k")
    failure = node.ask("invoke", name="trap", body=body, key="t")
    node.kill()
    node = start()
    again = node.ask("invoke", name="f", body=body, key="k")
    assert again == {**first, "replayed": True}
    failed_again = node.ask("invoke", name="trap", body=body, key="t")
    assert failed_again["error"].pop("replayed")
    assert failed_again == failure


def test_a_drain_leaves_unfinished_invocations_for_the_next_start(start: Start) -> None:
    node = start(EDGEAGENT_DRAIN_TIMEOUT_MS="10", EDGEAGENT_QUEUE_BACKGROUND_MAX="1")
    node.ask("deploy", name="slow", guest="loop")
    node.ask("deploy", name="add", guest="add1")
    running = node.ask("submit", name="slow")["id"]
    waiting = node.ask("submit", name="add", body=text(b"1"))["id"]
    node.stop()
    assert node.process.returncode == 0
    node = start(EDGEAGENT_QUEUE_BACKGROUND_MAX="2")
    assert node.ask("wait", id=waiting)["attempts"] == 1
    assert node.ask("status", id=running)["state"] == "running"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_sigkill_during_deploys_leaves_old_or_new(start: Start, seed: int) -> None:
    chance = random.Random(seed)
    guests = ["add1", "echo", "trap"]
    digests = {guest: _sha256(guest) for guest in guests}
    acknowledged: dict[str, Any] = {}
    under_way: dict[str, str] = {}
    for _ in range(3):
        node = start()
        listed = node.ask("list")["functions"]
        for name, digest in acknowledged.items():
            # The last acknowledged version, or the one that was under way at the kill.
            assert listed.get(name) in (digest, under_way.get(name))
        for name, digest in listed.items():
            answer = node.ask("invoke", name=name, body=text(b"abc"))
            assert ("error" in answer) == (digest == digests["trap"])
        acknowledged = dict(listed)
        timer = threading.Timer(chance.uniform(0.0, 0.4), node.process.kill)
        timer.start()
        under_way = {}
        try:
            while True:
                name, guest = f"f{chance.randrange(3)}", chance.choice(guests)
                under_way = {name: digests[guest]}
                acknowledged[name] = node.ask("deploy", name=name, guest=guest)["sha256"]
        except (EOFError, BrokenPipeError):
            timer.join()
            node.close()
    final = start()
    final.stop()


def _sha256(guest: str) -> str:
    import hashlib

    return hashlib.sha256(wasm(guest)).hexdigest()
