"""Twenty real daemons on loopback, with keys, over links that lose a tenth of all datagrams."""

from __future__ import annotations

import datetime
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from edgeagent.mesh.authority import issue_node, make_cluster
from tests.integration.daemon import Daemon, patience

COUNT = 20


def _id(number: int) -> str:
    return f"{number:032x}"


def _daemon(folder: Path, number: int, seed: str) -> Daemon:
    now = datetime.datetime.now(datetime.UTC)
    issue_node(folder / "cluster", folder / f"k{number}", _id(number), (), now)
    state = folder / f"n{number}"
    state.mkdir(mode=0o700)
    (state / "node-id").write_text(f"{_id(number)}\n")
    begun = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Daemon(
        state, "mesh.listen=127.0.0.1:0", "mesh.preset=local", f"mesh.keys={folder}/k{number}",
        f"mesh.seeds={seed}", f"mesh.emulate=1 since {begun}, loss 0.1", "runtime.workers=1", start=False,
    )  # fmt: skip


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[list[Daemon]]:
    make_cluster(tmp_path / "cluster", "crowd", b"s" * 32, datetime.datetime.now(datetime.UTC))
    first = _daemon(tmp_path, 0, "")
    first.start()
    nodes = [first]
    try:
        seed = first.request("GET", "/v1/peers").json()["address"]
        nodes += [_daemon(tmp_path, number, seed) for number in range(1, COUNT)]
        with ThreadPoolExecutor(4) as pool:  # as long as they: a daemon ends with the thread that started it
            list(pool.map(Daemon.start, nodes[1:]))
            yield nodes
    finally:
        for node in nodes:
            node.process.send_signal(signal.SIGCONT)
            node.kill()


def _states(node: Daemon) -> dict[str, str]:
    """Who is suspected for a moment, for want of lost packets, lives."""
    view: Any = node.request("GET", "/v1/peers").json()
    return {one["id"]: "alive" if one["state"] == "suspect" else one["state"] for one in view["peers"]}


def _wait_states(node: Daemon, expected: dict[str, str]) -> None:
    for _ in patience():
        if _states(node) == expected:
            return
    raise AssertionError({name: state for name, state in _states(node).items() if expected[name] != state})


def test_a_crowd_agrees_on_who_is_there(crowd: list[Daemon]) -> None:
    alive = {_id(number): "alive" for number in range(COUNT)}
    for number, node in enumerate(crowd):
        _wait_states(node, {name: state for name, state in alive.items() if name != _id(number)})
    killed, stopped = crowd[7], crowd[11]
    killed.process.kill()
    stopped.process.send_signal(signal.SIGSTOP)
    gone = {**alive, _id(7): "dead", _id(11): "dead"}
    watchers = [number for number in range(COUNT) if number not in {7, 11}]
    for number in watchers:
        _wait_states(crowd[number], {name: state for name, state in gone.items() if name != _id(number)})
    stopped.process.send_signal(signal.SIGCONT)
    back = {**alive, _id(7): "dead"}
    for number in [*watchers, 11]:
        _wait_states(crowd[number], {name: state for name, state in back.items() if name != _id(number)})
    for number in watchers:
        assert "Traceback" not in crowd[number].log_text()
        assert crowd[number].metric("edgeagent_mesh_cut_off_total") > 0, "some datagrams were lost"
