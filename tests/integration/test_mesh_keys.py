"""Real daemons with keys made by ``edgeagent keys``: who gets in, who does not, and secrets that change meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon import Daemon, cli, environment, patience

Start = Callable[..., Daemon]


def keys(*words: object) -> dict[str, Any]:
    done = cli("keys", *map(str, words), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def new_state(folder: Path, node: str) -> None:
    """A state directory whose node has this id: issuing keys does not need a first start then."""
    folder.mkdir(mode=0o700)
    (folder / "node-id").write_text(f"{node}\n")


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    keys("init", tmp_path / "cluster", "--label", "farm")
    return tmp_path / "cluster"


def member(start: Start, cluster: Path, name: str, *settings: str, seed: Daemon | None = None) -> Daemon:
    folder = cluster.parent / f"{cluster.name}-{name}"
    if not folder.exists():
        keys("issue", cluster, "--node", id_of(name), "--out", folder)
    state = cluster.parent / name
    if not state.exists():
        new_state(state, id_of(name))
    seeds = () if seed is None else (f"mesh.seeds={address(seed)}",)
    return start(
        "mesh.listen=127.0.0.1:0", "mesh.preset=local", f"mesh.keys={folder}", *seeds, *settings, state=name
    )


def id_of(name: str) -> str:
    return (name * 32)[:32]


def address(node: Daemon) -> str:
    return str(node.request("GET", "/v1/peers").json()["address"])


def peers(node: Daemon) -> dict[str, Any]:
    return {one["id"]: one for one in node.request("GET", "/v1/peers").json()["peers"]}


def wait_at_least(node: Daemon, metric: str, value: float) -> None:
    for _ in patience():
        if node.metric(metric) >= value:
            return
    raise AssertionError(f"{metric} is {node.metric(metric)}")


def test_members_with_keys_find_each_other(start_daemon: Start, cluster: Path) -> None:
    a = member(start_daemon, cluster, "a")
    b = member(start_daemon, cluster, "b", "mesh.position=48.2, 16.4, 171", seed=a)
    for node in (a, b):
        node.wait_metric("edgeagent_mesh_members_alive", 1)
    for _ in patience():
        if peers(a)[id_of("b")]["place"]:
            break
    assert peers(a)[id_of("b")]["place"]["latitude_deg"] == pytest.approx(48.2)
    assert a.metric("edgeagent_mesh_refused_total") == 0
    assert a.metric("edgeagent_mesh_records_refused_total") == 0


def test_another_cluster_of_the_same_name_stays_outside(
    start_daemon: Start, cluster: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    keys("init", tmp_path / "elsewhere" / "cluster", "--label", "farm")
    a = member(start_daemon, cluster, "a")
    stranger = tmp_path / "elsewhere" / "cluster"
    folder = tmp_path / "stranger-keys"
    keys("issue", stranger, "--node", id_of("d"), "--out", folder)
    new_state(tmp_path / "s", id_of("d"))
    s = start_daemon(
        "mesh.listen=127.0.0.1:0", "mesh.preset=local", f"mesh.keys={folder}",
        f"mesh.seeds={address(a)}", state="s",
    )  # fmt: skip
    plain = start_daemon(
        "mesh.listen=127.0.0.1:0", "mesh.preset=local", f"mesh.seeds={address(a)}", state="plain"
    )
    wait_at_least(a, "edgeagent_mesh_refused_total", 2)
    for node in (a, s, plain):
        assert peers(node) == {}
    assert "of another cluster" in a.log_text()
    assert a.log_text().count("packets that do not open") == 1
    assert b"packets did not open" in cli("peers", "--node", a.url).stdout
    for node in (s, plain):
        assert b"did not answer. Is it up" in cli("peers", "--node", node.url).stdout


def test_one_who_has_the_secret_but_no_voucher_cannot_write_records(
    start_daemon: Start, cluster: Path, tmp_path: Path
) -> None:
    """Packets open, the record does not count: the authority is another one's."""
    a = member(start_daemon, cluster, "a")
    keys("init", tmp_path / "own", "--label", "farm")
    (tmp_path / "own" / "cluster.json").write_bytes((cluster / "cluster.json").read_bytes())
    folder = tmp_path / "forged"
    keys("issue", tmp_path / "own", "--node", id_of("f"), "--out", folder)
    new_state(tmp_path / "f", id_of("f"))
    start_daemon(
        "mesh.listen=127.0.0.1:0", "mesh.preset=local", f"mesh.keys={folder}",
        f"mesh.seeds={address(a)}", state="f",
    )  # fmt: skip
    wait_at_least(a, "edgeagent_mesh_records_refused_total", 1)
    assert peers(a) == {}


def test_secrets_change_without_a_pause(start_daemon: Start, cluster: Path) -> None:
    a = member(start_daemon, cluster, "a")
    b = member(start_daemon, cluster, "b", seed=a)
    for node in (a, b):
        node.wait_metric("edgeagent_mesh_members_alive", 1)
    folders = [cluster.parent / f"{cluster.name}-{name}" for name in ("a", "b")]
    for step, secrets, primary in (("add", [1, 2], 1), ("use", [1, 2], 2), ("drop", [2], 2)):
        shown = keys("rotate", cluster, "--step", step, "--to", folders[0], "--to", folders[1])
        assert (shown["secrets"], shown["primary"]) == (secrets, primary)
        for node in (a, b):
            for _ in patience():
                node.request("GET", "/v1/peers")
                if node.log_text().count("another keyring") == ("add", "use", "drop").index(step) + 1:
                    break
            assert peers(node)[id_of("b" if node is a else "a")]["state"] == "alive"
    for node in (a, b):
        assert node.metric("edgeagent_mesh_refused_total") == 0
        assert node.metric("edgeagent_mesh_probes_failed_total") == 0
    assert keys("rotate", cluster, "--step", "give", "--to", folders[0])["secrets"] == [2]
    late = cluster.parent / "late"
    keys("issue", cluster, "--node", id_of("e"), "--out", late)
    assert json.loads((late / "cluster.json").read_bytes())["primary"] == 2


def test_a_ring_that_tears_leaves_the_one_in_use(start_daemon: Start, cluster: Path) -> None:
    a = member(start_daemon, cluster, "a")
    ring = cluster.parent / f"{cluster.name}-a" / "cluster.json"
    whole = ring.read_bytes()
    ring.write_bytes(whole[:40])
    for _ in patience():
        a.request("GET", "/v1/peers")
        if "the one in use stays" in a.log_text():
            break
    assert str(ring) in a.log_text()
    ring.write_bytes(whole)
    b = member(start_daemon, cluster, "b", seed=a)
    b.wait_metric("edgeagent_mesh_members_alive", 1)


def test_gossip_listens_beyond_loopback_with_keys(start_daemon: Start, cluster: Path) -> None:
    a = member(start_daemon, cluster, "a", "mesh.listen=0.0.0.0:0", "mesh.advertise=127.0.0.1")
    b = member(start_daemon, cluster, "b", seed=a)
    for node in (a, b):
        node.wait_metric("edgeagent_mesh_members_alive", 1)


def _refused_start(state: Path, *settings: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "edgeagent", "run", "--json", "--listen", "127.0.0.1:0"]
    command += ["--state-dir", str(state), "--set", f"node.cache_dir={state}/cache"]
    for one in settings:
        command += ["--set", one]
    done = subprocess.run(command, check=False, capture_output=True, env=environment(), timeout=60)
    assert done.returncode != 0
    assert b"Traceback" not in done.stderr
    shown: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return shown


def test_starts_that_are_refused_say_why(cluster: Path, tmp_path: Path) -> None:
    keys("issue", cluster, "--node", id_of("b"), "--out", tmp_path / "b-keys")
    new_state(tmp_path / "a", id_of("a"))
    for settings, says in (
        (("mesh.listen=0.0.0.0:0",), "beyond loopback without keys"),
        (("mesh.listen=127.0.0.1:0", f"mesh.keys={tmp_path}/nowhere"), "No such file"),
        (("mesh.listen=127.0.0.1:0", f"mesh.keys={tmp_path}/b-keys"), "not those of node"),
        (("mesh.listen=0.0.0.0:0", f"mesh.keys={tmp_path}/b-keys"), "not those of node"),
    ):
        shown = _refused_start(tmp_path / "a", *settings)
        assert says in shown["problem"]["detail"], shown
        assert shown["problem"]["hint"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("issue", "{cluster}", "--node", "no id", "--out", "{tmp}/x"), "is no id"),
        (("issue", "{tmp}/nowhere", "--node", "n", "--out", "{tmp}/x"), "No such file"),
        (("init", "{cluster}"), "exists"),
        (("rotate", "{cluster}", "--step", "drop"), "the oldest secret is the one in use"),
        (("rotate", "{cluster}", "--step", "add", "--to", "{other}"), "of another cluster"),
    ],
)
def test_what_keys_refuses(cluster: Path, tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    keys("init", tmp_path / "other", "--label", "another")
    filled = [one.format(cluster=cluster, tmp=tmp_path, other=tmp_path / "other") for one in words]
    before = (cluster / "cluster.json").read_bytes()
    done = cli("keys", *filled)
    assert done.returncode != 0
    assert says in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert (cluster / "cluster.json").read_bytes() == before


def test_a_node_joins_by_a_token(start_daemon: Start, cluster: Path, tmp_path: Path) -> None:
    a = member(start_daemon, cluster, "a")
    made = keys("request", "--node", id_of("b"), "--out", tmp_path / "b-keys")
    assert made["node"] == id_of("b")
    asked = cli("keys", "issue", str(cluster), "--request", "-", stdin=made["request"].encode())
    assert asked.returncode == 0, asked.stderr
    done = cli("keys", "join", "-", "--out", str(tmp_path / "b-keys"), "--json", stdin=asked.stdout)
    assert done.returncode == 0, done.stderr
    new_state(tmp_path / "b", id_of("b"))
    b = start_daemon(
        "mesh.listen=127.0.0.1:0", "mesh.preset=local", f"mesh.keys={tmp_path}/b-keys",
        f"mesh.seeds={address(a)}", state="b",
    )  # fmt: skip
    for node in (a, b):
        node.wait_metric("edgeagent_mesh_members_alive", 1)
    for words, says in (
        (("issue", cluster, "--request", "x"), "that is no request"),
        (("issue", cluster, "--request", made["request"], "--hours", "0"), "--hours 0"),
        (("issue", cluster, "--request", made["request"], "--out", tmp_path / "c"), "writes no folder"),
        (("issue", cluster, "--node", "n"), "issue takes --out"),
        (("issue", cluster, "--operator", "o", "--address", "1.2.3.4", "--out", tmp_path / "o"), "--address"),
        (("join", "x", "--out", tmp_path / "b-keys"), "that is no token"),
        (("join", asked.stdout.decode(), "--out", cluster.parent / f"{cluster.name}-a"), "for another key"),
        (("join", asked.stdout.decode(), "--out", tmp_path / "nowhere"), "No such file"),
        (("request", "--node", "n", "--out", tmp_path / "b-keys"), "exists"),
    ):
        refused = cli("keys", *map(str, words))
        assert refused.returncode != 0, words
        assert says in refused.stderr.decode()
        assert "Traceback" not in refused.stderr.decode()
