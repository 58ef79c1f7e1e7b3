"""Steps of one run at two nodes: which run it is, and what it has seen, goes with its calls over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgeagent.http.server import Server
from edgeagent.model.errors import StoreFailed
from edgeagent.model.function import FunctionSection, Manifest, State
from edgeagent.model.workflow import Workflow, WorkflowSection, WorkflowStep
from edgeagent.node.config import load_config
from edgeagent.node.node import Node
from edgeagent.node.state_fusion import Fusion
from edgeagent.node.state_guest import StateGuest
from edgeagent.state.keystore import KeyStore
from edgeagent.state.session import read_session
from tests.unit.node.fake_state import FakeState

EXAMPLES = Path(__file__).resolve().parents[2] / "examples/state"


@contextlib.asynccontextmanager
async def serving(folder: Path, kind: str, seeds: str) -> AsyncIterator[tuple[Node, FakeState]]:
    """A node of this process, with a state of its own."""
    config = load_config(
        None,
        {"HOME": str(folder)},
        {
            "node.state_dir": str(folder / "state"),
            "node.cache_dir": str(folder / "cache"),
            "http.listen": "127.0.0.1:0",
            "mesh.listen": "127.0.0.1:0",
            "mesh.preset": "local",
            "placement.kind": kind,
            **({"mesh.seeds": seeds} if seeds else {}),
        },
    )
    node, port = Node(config), FakeState()
    await node.start()
    guest = StateGuest(node.engine)
    node.invoker.state, node.mailboxes.state = Fusion(port), guest
    server = Server(node)
    try:
        await server.start()
        await node.join_mesh(server.url)
        yield node, port
        await node.drain()
    finally:
        await server.stop()
        await guest.stop()
        await node.close()


async def known_to_each_other(*nodes: Node) -> None:
    async with asyncio.timeout(30):
        while not all(node.membership.url_of(other.node_id) for node in nodes for other in nodes):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # gossip brings it about


async def both(folder: Path) -> None:
    async with serving(folder / "a", "edge", "") as (first, here):
        assert first.membership.service is not None
        address = first.membership.service.address
        async with serving(folder / "b", "cloud", address) as (second, there):
            await known_to_each_other(first, second)
            for name in ("tally", "report"):
                manifest = Manifest(function=FunctionSection(name=name), state=State(prefixes=("tasks/",)))
                await first.functions.deploy(name, (EXAMPLES / f"{name}.wasm").read_bytes(), manifest)
            steps = (
                WorkflowStep(name="one", function="tally", needs=("kind:cloud",)),
                WorkflowStep(name="other", function="report", needs=("kind:edge",)),
                WorkflowStep(name="all", function="report", after=("one", "other"), needs=("kind:edge",)),
            )
            await first.workflows.deploy("w", Workflow(workflow=WorkflowSection(name="w"), step=steps))
            run = await first.workflows.start("w", b"word", deadline_ms=0, key=None, traceparent="")
            view = await first.workflows.finished(run)
            assert view.state == "succeeded", view
            assert {who for _, who, _ in there.groups} == {run} == {who for _, who, _ in here.groups}
            assert there.values["tasks/tally/word"] == b"1"
            assert f"runs/{run}/tally" in there.values
            seen = read_session(here.groups[-1][0].session)
            assert seen.least("tasks/tally/word").wall_ms > 0, "what was seen there is asked for here"


async def out_of_order(folder: Path) -> None:
    async with serving(folder / "a", "edge", "") as (node, _):
        assert node.ready() == (True, [])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(KeyStore, "failed", StoreFailed("the disk is broken"))
            assert node.ready() == (False, ["the state of functions is out of order: the disk is broken"])


def test_a_node_whose_state_takes_no_writes_is_not_ready(tmp_path: Path) -> None:
    asyncio.run(out_of_order(tmp_path))


def test_a_run_and_what_it_has_seen_go_with_its_steps(tmp_path: Path) -> None:
    asyncio.run(both(tmp_path))
