"""The chain over HTTP, against a fake node; where the guests are found."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.demo import chain
from edgeagent.demo.chain import STEPS, deploy_all, guests_directory, run_chain
from edgeagent.demo.scene import generate_scene
from edgeagent.model.errors import PeerFailed, Unavailable
from tests.unit.demo.fake_node import FakeNode, fake_node
from tests.unit.guests.guest import EXAMPLES


@pytest.fixture
def node() -> Iterator[FakeNode]:
    with fake_node() as started:
        yield started


def test_deploys_and_runs(node: FakeNode) -> None:
    deploy_all(node.url)
    assert node.requests == [("PUT", f"/v1/functions/{name}", "application/wasm") for name in STEPS]
    body = generate_scene(64).encode()
    first, again = run_chain(node.url, body), run_chain(node.url, body)
    assert json.loads(first.output) == {"type": "FeatureCollection", "features": []}
    assert again.output == first.output
    assert [step.name for step in first.steps] == list(STEPS)
    assert all(step.cold for step in first.steps)
    assert not any(step.cold for step in again.steps)
    assert first.steps[0].bytes_in == len(body)
    assert [step.bytes_in for step in first.steps[1:]] == [step.bytes_out for step in first.steps[:-1]]
    assert first.steps[-1].bytes_out == len(first.output)
    assert first.total_ms > 0


def test_a_step_as_json(node: FakeNode) -> None:
    deploy_all(node.url)
    run = run_chain(node.url, generate_scene(64).encode())
    assert run.steps[0].document() == {
        "name": "calibrate",
        "node": "fake",
        "backend": "cpu",
        "why": "only node",
        "hose": "share",
        "cold": True,
        "duration_ms": 1.5,
        "copied_bytes": 1,
        "mapped_bytes": 2,
        "predicted_ms": None,
        "bytes_in": 160 + 6 * 64 * 64,
        "bytes_out": 160 + 4 * 6 * 64 * 64,
    }


def test_a_node_that_knows_no_chains(node: FakeNode) -> None:
    deploy_all(node.url)
    node.tells = False
    with pytest.raises(PeerFailed, match="told nothing of its steps"):
        run_chain(node.url, generate_scene(64).encode())


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"detail": "the guest trapped"}', "HTTP 500: the guest trapped"),
        (b"plain text", "HTTP 500: plain text"),
        (b"[1]", r"HTTP 500: \[1\]"),
        (b"{}", "HTTP 500: {}"),
    ],
)
def test_the_nodes_problem_is_told(node: FakeNode, body: bytes, says: str) -> None:
    node.broken["/functions/calibrate"] = (500, body)
    with pytest.raises(PeerFailed, match=f"POST /functions/calibrate: {says}"):
        run_chain(node.url, b"")


def test_nobody_answers() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(PeerFailed, match="did not answer POST /functions/calibrate"):
            run_chain(f"http://127.0.0.1:{taken.getsockname()[1]}", b"")


def test_guests_beside_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEAGENT_EXAMPLES", raising=False)
    assert guests_directory() == EXAMPLES / "wildfire"


def test_guests_that_are_named_or_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "named")
    monkeypatch.setenv("EDGEAGENT_EXAMPLES", str(tmp_path / "named"))
    assert guests_directory() == tmp_path / "named/wildfire"
    monkeypatch.delenv("EDGEAGENT_EXAMPLES")
    monkeypatch.setattr(chain, "__file__", str(tmp_path / "lib/edgeagent/demo/chain.py"))
    monkeypatch.setattr("sys.prefix", str(tmp_path / "prefix"))
    with pytest.raises(Unavailable, match="not here; looked in") as raised:
        guests_directory()
    assert raised.value.hint == "set EDGEAGENT_EXAMPLES"
    shutil.copytree(EXAMPLES, tmp_path / "prefix/share/edgeagent/examples")
    assert guests_directory() == tmp_path / "prefix/share/edgeagent/examples/wildfire"
