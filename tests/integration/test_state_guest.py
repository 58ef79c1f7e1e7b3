"""Functions that read and write state in a whole node, on both engines; the state service is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
import wasmtime

from edgeagent import native
from edgeagent.model.errors import GuestStateRefused, GuestTrap
from edgeagent.model.function import FunctionSection, Manifest, State
from edgeagent.model.run_tag import RunTag
from edgeagent.model.workflow import Workflow, WorkflowSection, WorkflowStep
from edgeagent.node.chain import Chain
from edgeagent.node.config import load_config
from edgeagent.node.node import Node
from edgeagent.node.state_fusion import Fusion
from edgeagent.node.state_guest import StateGuest
from edgeagent.node.steps import parse_step
from edgeagent.state.errors import KeyTaken
from edgeagent.state.session import read_session
from tests.contract.state_calls import StateProgram, results, state_guest
from tests.unit.node.fake_state import FakeState

EXAMPLES = Path(__file__).resolve().parents[2] / "examples/state"
ENGINES = [
    pytest.param("native", marks=pytest.mark.skipif(not native.accelerated, reason="no extension")),
    "pure",
]
Scenario = Callable[[Node, FakeState], Awaitable[None]]


def play(folder: Path, engine: str, scenario: Scenario, *, serves: bool = True) -> None:
    async def main() -> None:
        config = load_config(
            None,
            {"HOME": str(folder)},
            {
                "node.state_dir": str(folder / "state"),
                "node.cache_dir": str(folder / "cache"),
                "runtime.engine": engine,
            },
        )
        node, port = Node(config), FakeState()
        await node.start()
        guest = StateGuest(node.engine)
        node.invoker.state, node.mailboxes.state = (Fusion(port), guest) if serves else (None, None)
        try:
            for name in ("tally", "report"):
                manifest = Manifest(function=FunctionSection(name=name), state=State(prefixes=("tasks/",)))
                await node.functions.deploy(name, (EXAMPLES / f"{name}.wasm").read_bytes(), manifest)
            await scenario(node, port)
        finally:
            await guest.stop()
            await node.close()

    asyncio.run(main())


async def ran(node: Node, body: bytes, *steps: str) -> bytes:
    """The output of a workflow of these functions, one after the other."""
    before: Sequence[str] = ()
    made: list[WorkflowStep] = []
    for step in steps:
        made.append(WorkflowStep(name=f"{step}-{len(made)}", function=step, after=tuple(before)))
        before = (made[-1].name,)
    name = "-".join(steps)
    await node.workflows.deploy(name, Workflow(workflow=WorkflowSection(name=name), step=tuple(made)))
    run = await node.workflows.start(name, body, deadline_ms=0, key=None, traceparent="")
    view = await node.workflows.finished(run)
    assert view.state == "succeeded", view
    return bytes(await node.workflows.output(run))


@pytest.mark.parametrize("engine", ENGINES)
def test_calls_at_once_count_every_word(tmp_path: Path, engine: str) -> None:
    async def scenario(node: Node, port: FakeState) -> None:
        assert (await node.invoker.invoke("tally", b"one two one")).output == b"one 1\ntwo 1\none 2\n"
        await asyncio.gather(*(node.invoker.invoke("tally", b"one two") for _ in range(40)))
        assert port.values == {"tasks/tally/one": b"42", "tasks/tally/two": b"41"}
        report = await node.invoker.invoke("report", b"")
        assert report.output == b"tasks/tally/one 42\ntasks/tally/two 41\n"
        assert read_session(report.session).least("tasks/tally/one").wall_ms > 0

    play(tmp_path, engine, scenario)


def test_what_a_chain_has_seen_goes_on_with_it(tmp_path: Path) -> None:
    async def scenario(node: Node, port: FakeState) -> None:
        chain = Chain(steps=(parse_step("tally"), parse_step("report+tally"), parse_step("report")))
        result = await node.invoker.invoke_chain(chain, b"one")
        assert b"tasks/tally/one 2\n" in bytes(result.output)
        seen = read_session(result.session)
        assert seen.least("tasks/tally/one").text() == port.entries["tasks/tally/one"].version.text()
        assert port.groups[0][0].session == ""
        assert read_session(port.groups[-1][0].session).least("tasks/tally/one").wall_ms > 0

    play(tmp_path, "auto", scenario)


@pytest.mark.parametrize("engine", ENGINES)
def test_steps_of_a_run_share_what_others_do_not_see(tmp_path: Path, engine: str) -> None:
    async def scenario(node: Node, port: FakeState) -> None:
        outputs = await asyncio.gather(
            *(ran(node, f"word-{i}".encode(), "tally", "report") for i in range(4))
        )
        for i, output in enumerate(outputs):
            assert output.endswith(f"\nword-{i} 1\n".encode())
        runs = sorted(key for key in port.values if key.startswith("runs/"))
        assert [key.split("/")[2] for key in runs] == ["tally"] * 4
        assert sorted(port.values[key] for key in runs) == [f"word-{i} 1\n".encode() for i in range(4)]
        told = {group.session for group, run, _ in port.groups if run}
        assert any(told), "what a step has seen goes with the next"

    play(tmp_path, engine, scenario)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_step_whose_group_is_refused_has_failed(tmp_path: Path, engine: str) -> None:
    async def scenario(node: Node, port: FakeState) -> None:
        async def call(run: str) -> bytes:
            result = await node.invoker.feed("tally", b"a", keep=True, tag=RunTag(run, 1))
            return bytes(result.output)

        port.set("runs/r1/tally", b"another value", epoch=1)
        with pytest.raises(GuestStateRefused) as refused:
            await call("r1")
        assert refused.value.details == {"cause": KeyTaken.slug, "function": "tally"}
        assert port.values["runs/r1/tally"] == b"another value"
        assert await call("r2") == b"a 2\n"
        assert node.engine.stats().live_instances == 0
        text = node.meters.render().decode()
        assert 'edgeagent_invocations_total{function="tally",outcome="guest-state-refused"} 1.0' in text

    play(tmp_path, engine, scenario)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_guest_that_traps_writes_nothing(tmp_path: Path, engine: str) -> None:
    guest = wasmtime.wat2wasm("""(module
      (import "edge_state" "put" (func $put (param i32 i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "run/a")
      (func (export "edge_alloc") (param i32) (result i32) (i32.const 64))
      (func (export "edge_handle") (param i32 i32) (result i64)
        (drop (call $put (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 5) (i32.const 0)))
        unreachable))""")

    async def scenario(node: Node, port: FakeState) -> None:
        await node.functions.deploy("bad", bytes(guest), Manifest(function=FunctionSection(name="bad")))
        with pytest.raises(GuestTrap):
            await node.invoker.feed("bad", b"", keep=False, tag=RunTag("r1", 1))
        assert port.values == {}

    play(tmp_path, engine, scenario)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("count", [1000, 700_000])
def test_values_of_any_size_pass_through_a_run(tmp_path: Path, engine: str, count: int) -> None:
    async def scenario(node: Node, port: FakeState) -> None:
        await node.functions.deploy("calls", state_guest())
        first, second = StateProgram(), StateProgram(show=count)
        for p in (first, second):
            key = p.text(b"run/large")
            if p is first:
                p.call("fill", 0x200000, 7, count)
                p.call("put", *key, 0x200000, count, 0)
            p.call("get", *key, 0x100000, count)
            p.call("get", *key, 0x100000, 8)
        for p, expected in ((first, [0, 3, count, count]), (second, [count, count])):
            result = await node.invoker.feed("calls", p.encoded(), keep=False, tag=RunTag("r1", 1))

            class Seen:
                error = None
                output = result.output

            assert results(Seen, len(expected)) == expected  # type: ignore[arg-type]
        assert bytes(result.output[4096:]) == b"\x07" * count
        assert len(port.writes()) == 1

    play(tmp_path, engine, scenario)


@pytest.mark.parametrize("engine", ENGINES)
def test_where_nobody_serves_state_it_is_off(tmp_path: Path, engine: str) -> None:
    async def scenario(node: Node, port: FakeState) -> None:
        with pytest.raises(GuestTrap):
            await node.invoker.invoke("tally", b"one")
        await node.functions.deploy("calls", state_guest())
        p = StateProgram()
        p.call("get", *p.text(b"tasks/a"), 0, 0)
        p.call("put", *p.text(b"tasks/a"), 0, 4, 0)
        result = await node.invoker.invoke("calls", p.encoded())
        assert bytes(result.output[:8]) == (-12).to_bytes(4, "little", signed=True) * 2
        assert port.groups == []

    play(tmp_path, engine, scenario, serves=False)
