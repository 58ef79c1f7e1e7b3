"""Workflows whose steps leave each other state, over real daemons."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import wasmtime

from tests.integration.continuum_rig import Continuum, spec
from tests.integration.daemon import Daemon, Reply, patience

EXAMPLES = Path(__file__).resolve().parents[2] / "examples/state"
_STEPS = (
    {"name": "tally", "function": "tally", "needs": ["n1"]},
    {"name": "report", "function": "report", "after": ["tally"], "needs": ["n2"]},
)

# Writes run/mark and answers with its input. It reads nothing, so its run is handed over to where it runs.
_MARKS = """(module
  (import "edge_state" "put" (func $put (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "run/mark")
  (func (export "edge_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "edge_handle") (param i32 i32) (result i64)
    (drop (call $put (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 8) (i32.const 0)))
    (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1)))))"""

# They are called from the run's holder: what imports cas is not run twice, so it is not handed over.
_CAS = '(import "edge_state" "cas" (func (param i32 i32 i32 i32 i32) (result i32)))'
_MARKS_ONCE = _MARKS.replace("(memory", _CAS + " (memory", 1)
_ECHOES_ONCE = f"""(module {_CAS}
  (memory (export "memory") 1)
  (func (export "edge_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "edge_handle") (param i32 i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1)))))"""


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


def test_what_a_step_wrote_goes_along_when_its_run_is_handed_on(three: Continuum) -> None:
    """The next step reads nothing, so that nothing but the hand-over brings it there; by rendezvous alone about half of
    the copies would be at the origin only.
    """
    deploy_wat(three.origin, "marks", _MARKS)
    assert three.origin.deploy("echo").status == 201
    steps = (
        {"name": "mark", "function": "marks", "needs": ["n1"]},
        {"name": "idle", "function": "echo", "after": ["mark"], "needs": ["n2"]},
    )
    assert three.deploy(spec("onward", *steps)).status == 201
    marks_arrive(three, "onward", 2)


def test_what_a_step_wrote_that_is_called_from_the_holder_goes_to_the_next(three: Continuum) -> None:
    """Towards n1, to which no copies of n2 go otherwise."""
    mark_then_idle(three, "called", _MARKS_ONCE)


def test_a_large_group_travels_to_the_next_step_while_it_is_written(three: Continuum) -> None:
    """128 KiB of zeros, from n2 to n1."""
    large = _MARKS_ONCE.replace('"memory") 1)', '"memory") 3)').replace(
        "(i32.const 0) (i32.const 8) (i32.const 0)))", "(i32.const 4096) (i32.const 131072) (i32.const 0)))"
    )
    mark_then_idle(three, "large", large)
    assert three.nodes[2].metric("edgeagent_state_groups_early_total") > 0


def deploy_wat(node: Daemon, name: str, text: str) -> None:
    wasm = {"Content-Type": "application/wasm"}
    assert node.request("PUT", f"/v1/functions/{name}", bytes(wasmtime.wat2wasm(text)), wasm).status == 201


def mark_then_idle(three: Continuum, workflow: str, marks: str) -> None:
    """What the first step writes at n2 arrives at n1, where the second one, which reads nothing, runs."""
    deploy_wat(three.origin, f"{workflow}-marks", marks)
    deploy_wat(three.origin, f"{workflow}-echoes", _ECHOES_ONCE)
    steps = (
        {"name": "mark", "function": f"{workflow}-marks", "needs": ["n2"]},
        {"name": "idle", "function": f"{workflow}-echoes", "after": ["mark"], "needs": ["n1"]},
    )
    assert three.deploy(spec(workflow, *steps)).status == 201
    marks_arrive(three, workflow, 1)


def marks_arrive(three: Continuum, workflow: str, at: int) -> None:
    """What eight runs wrote is at a node, where they ended."""
    runs = {
        three.origin.request("POST", f"/workflows/{workflow}", b"x").headers["edgeagent-run"]
        for _ in range(8)
    }
    wanted = {f"runs/{one}/mark" for one in runs}
    for _ in patience(15):
        listed = three.nodes[at].request("GET", "/v1/state?prefix=runs/&here=1&limit=1000").json()["keys"]
        if wanted <= {one["key"] for one in listed}:
            return
    raise AssertionError(wanted - {one["key"] for one in listed})
