"""Workflows whose steps leave each other state, over real daemons."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.continuum_rig import Continuum, spec
from tests.integration.daemon import Daemon, Reply, patience

EXAMPLES = Path(__file__).resolve().parents[2] / "examples/state"
_STEPS = (
    {"name": "tally", "function": "tally", "needs": ["n1"]},
    {"name": "report", "function": "report", "after": ["tally"], "needs": ["n2"]},
)


def deploy(node: Daemon, guest: str, name: str = "", prefix: str = "tasks/") -> Reply:
    name = name or guest
    manifest = f'[function]\nname = "{name}"\n[state]\nprefixes = ["{prefix}"]\n'
    parts = [("wasm", (EXAMPLES / f"{guest}.wasm").read_bytes()), ("manifest", manifest.encode())]
    body = b"".join(
        f'--edge\r\nContent-Disposition: form-data; name="{part}"\r\n\r\n'.encode() + data + b"\r\n"
        for part, data in parts
    )
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    return node.request("PUT", f"/v1/functions/{name}", body + b"--edge--\r\n", headers)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Continuum]:
    made = Continuum(tmp_path_factory.mktemp("runs"), ("edge", "satellite", "satellite"))
    for name in ("tally", "report"):
        assert deploy(made.origin, name).status == 201
    assert made.deploy(spec("count", *_STEPS)).status == 201
    yield made
    made.stop()


def test_the_next_step_reads_at_another_node_what_the_first_one_left(three: Continuum) -> None:
    reply = three.origin.request("POST", "/workflows/count", b"a b a")
    assert reply.status == 200, reply.body
    lines = reply.body.decode().split("\n")
    assert "tasks/tally/a 2" in lines
    assert lines[-4:] == ["a 1", "b 1", "a 2", ""]
    steps = {one["name"]: one["node"] for one in reply_steps(reply)}
    assert steps == {"tally": three.ids[1], "report": three.ids[2]}


def reply_steps(reply: Reply) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(reply.headers["edgeagent-steps"])
    return found


def test_runs_that_happen_at_once_never_mix_their_keys(three: Continuum) -> None:
    def run(number: int) -> tuple[int, Reply]:
        return number, three.origin.request("POST", "/workflows/count", f"w{number} w{number}".encode())

    with ThreadPoolExecutor(8) as pool:
        for number, reply in pool.map(run, range(24)):
            assert reply.status == 200, reply.body
            told = [line for line in reply.body.decode().split("\n") if line.startswith("w")]
            assert told == [f"w{number} 1", f"w{number} 2"]


def test_a_function_may_not_touch_what_its_manifest_does_not_name(three: Continuum) -> None:
    lone = three.origin
    assert deploy(lone, "tally", "bare", "sensors/").status == 201
    refused = lone.request("POST", "/functions/bare", b"x")
    assert refused.status == 500, refused.body


def test_state_is_ahead_at_the_node_of_the_next_step(three: Continuum) -> None:
    """The tally's answer is at the report's node before it is asked for: nothing had to be fetched by the reader."""
    before = three.nodes[2].metric("edgeagent_state_fetched_total")
    for number in range(3):
        assert three.origin.request("POST", "/workflows/count", f"ahead{number}".encode()).status == 200
    for _ in patience():
        held = three.nodes[2].request("GET", "/v1/state?prefix=runs/&here=1&limit=1000").json()["keys"]
        if len(held) >= 3:
            break
    assert len(held) >= 3
    assert three.nodes[2].metric("edgeagent_state_fetched_total") >= before
