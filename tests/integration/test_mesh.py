"""Real daemons that find each other over UDP and TCP on loopback: who is there, who died, who sees whom when."""

from __future__ import annotations

import datetime
import json
import shutil
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon import Daemon, cli, patience

Start = Callable[..., Daemon]


def _mesh(start: Start, name: str, *settings: str, seed: Daemon | None = None) -> Daemon:
    seeds = () if seed is None else (f"mesh.seeds={seed.request('GET', '/v1/peers').json()['address']}",)
    return start("mesh.listen=127.0.0.1:0", "mesh.preset=local", *seeds, *settings, state=name)


def _peers(node: Daemon) -> dict[str, Any]:
    return {one["id"]: one for one in node.request("GET", "/v1/peers").json()["peers"]}


def _id(node: Daemon) -> str:
    return str(node.request("GET", "/v1/node").json()["id"])


def _elements(folder: Path, **changed: object) -> Path:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.000000")
    omm = {
        "OBJECT_NAME": "ONE", "OBJECT_ID": "2020-001A", "EPOCH": now, "MEAN_MOTION": 15.2, "ECCENTRICITY": 0.0005,
        "INCLINATION": 53.0, "RA_OF_ASC_NODE": 100.0, "ARG_OF_PERICENTER": 80.0, "MEAN_ANOMALY": 10.0,
        "EPHEMERIS_TYPE": 0, "CLASSIFICATION_TYPE": "U", "NORAD_CAT_ID": 50001, "ELEMENT_SET_NO": 1,
        "REV_AT_EPOCH": 1, "BSTAR": 0.0001, "MEAN_MOTION_DOT": 0.0, "MEAN_MOTION_DDOT": 0.0, **changed,
    }  # fmt: skip
    file = folder / "gp.json"
    file.write_text(json.dumps([omm]))
    return file


@pytest.fixture
def three(start_daemon: Start) -> Iterator[list[Daemon]]:
    first = _mesh(start_daemon, "a")
    others = [_mesh(start_daemon, name, seed=first) for name in ("b", "c")]
    for node in (first, *others):
        node.wait_metric("edgeagent_mesh_members_alive", 2)
    yield [first, *others]
    for node in (first, *others):
        assert "Traceback" not in node.log_text()


def test_a_killed_member_is_dead_and_its_restart_alive_again(three: list[Daemon]) -> None:
    a, b, c = three
    victim = _id(c)
    before = _peers(a)[victim]["incarnation"]
    c.kill()
    for node in (a, b):
        node.wait_metric("edgeagent_mesh_members_dead", 1)
        assert _peers(node)[victim]["state"] == "dead"
    c.start()
    for node in (a, b):
        node.wait_metric("edgeagent_mesh_members_alive", 2)
        assert _peers(node)[victim]["incarnation"] > before


def test_a_member_that_stops_says_farewell(three: list[Daemon]) -> None:
    a, b, c = three
    gone = _id(c)
    assert c.stop() == 0
    for node in (a, b):
        node.wait_metric("edgeagent_mesh_members_alive", 1)
        assert _peers(node)[gone]["state"] == "left"


def test_a_member_that_stands_still_is_dead_and_comes_back_by_itself(three: list[Daemon]) -> None:
    a, b, c = three
    c.process.send_signal(signal.SIGSTOP)
    try:
        a.wait_metric("edgeagent_mesh_members_dead", 1)
        b.wait_metric("edgeagent_mesh_members_dead", 1)
    finally:
        c.process.send_signal(signal.SIGCONT)
    for node in three:
        node.wait_metric("edgeagent_mesh_members_alive", 2)


@pytest.mark.serial  # a busy machine fails probes
def test_a_member_behind_a_nat(start_daemon: Start) -> None:
    """Nobody listens at the address that it advertises; its datagrams come from another one."""
    a = _mesh(start_daemon, "a")
    b = _mesh(start_daemon, "b", "mesh.advertise=127.0.0.77", seed=a)
    for node in (a, b):
        node.wait_metric("edgeagent_mesh_members_alive", 1)
    for _ in patience():
        if a.metric("edgeagent_mesh_probes_total") >= 25:
            break
    assert a.metric("edgeagent_mesh_probes_total") >= 25
    assert a.metric("edgeagent_mesh_probes_failed_total") == 0
    assert _peers(a)[_id(b)]["state"] == "alive"
    assert _peers(a)[_id(b)]["address"].startswith("127.0.0.77:")


def test_garbage_is_counted_and_changes_nothing(three: list[Daemon]) -> None:
    a = three[0]
    host, port = a.request("GET", "/v1/peers").json()["address"].rsplit(":", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for data in (b"", b"\x00", b"\x01" * 1400, b"\x01\x95\x00", bytes(range(256)) * 5):
            udp.sendto(data, (host, int(port)))
    for data in (b"", b"\xff\xff\xff\xff", struct.pack(">I", 5) + b"hello", struct.pack(">I", 70_000)):
        with socket.create_connection((host, int(port)), timeout=10) as tcp:
            tcp.sendall(data)
            tcp.shutdown(socket.SHUT_WR)
            while tcp.recv(65536):
                pass
    for _ in patience():
        if a.metric("edgeagent_mesh_malformed_total") >= 5:
            break
    assert a.metric("edgeagent_mesh_malformed_total") >= 5
    assert len(_peers(a)) == 2
    assert {one["state"] for one in _peers(a).values()} == {"alive"}


def test_what_members_tell_of_themselves(three: list[Daemon]) -> None:
    a, b, _ = three
    assert b.deploy("add1").status == 201
    other = _id(b)
    for _ in patience():
        if _peers(a)[other]["functions"] and _peers(a)[other]["load"]:
            break
    told = _peers(a)[other]
    digest = b.request("GET", "/v1/functions/add1").json()["sha256"]
    assert told["functions"] == [digest[:16]]
    assert told["load"]["memory_free_bytes"] > 0
    assert told["capabilities"]["cores"] > 0
    assert told["endpoints"] == [b.url]


def test_where_they_are_and_when_they_meet(start_daemon: Start, tmp_path: Path) -> None:
    ground = _mesh(start_daemon, "ground", "mesh.position=48.2, 16.4, 171")
    flying = _mesh(start_daemon, "flying", f"mesh.orbit={_elements(tmp_path)}", seed=ground)
    for node in (ground, flying):
        node.wait_metric("edgeagent_mesh_members_alive", 1)
    sat = _id(flying)
    for _ in patience():
        if ground.request("GET", "/v1/peers").json()["predicted_until"] and _peers(ground)[sat]["place"]:
            break
    seen = _peers(ground)[sat]
    assert seen["place"]["object"] == "ONE (norad:50001)"
    for _ in patience():
        if _peers(ground)[sat]["load"] and _peers(ground)[sat]["load"]["sunlit"] is not None:
            break
    assert _peers(ground)[sat]["load"]["sunlit"] is seen["place"]["sunlit"]
    assert _peers(flying)[_id(ground)]["load"]["sunlit"] is None
    assert 400 < seen["place"]["altitude_km"] < 600
    assert seen["place"]["elements"] == "fresh"
    assert seen["state"] == "alive"  # heard all the time, whatever the plan says
    assert seen["in_contact"] in {True, False}
    assert seen["returns_at"] is None or not seen["in_contact"]
    mine = ground.request("GET", "/v1/contacts?hours=24").json()["contacts"]
    theirs = flying.request("GET", f"/v1/contacts?hours=24&peer={_id(ground)[:8]}").json()["contacts"]
    assert len(mine) >= 3
    assert [round(one["start_s"]) for one in mine][1:] == [round(one["start_s"]) for one in theirs][1:]
    shown = cli("contacts", "--hours", "24", node=ground.url)
    assert shown.returncode == 0
    assert shown.stdout.count(sat[:12].encode()) >= 3
    listed = cli("peers", node=ground.url)
    assert sat[:12].encode() in listed.stdout
    assert b"ONE (norad:50001)" in listed.stdout
    assert json.loads(cli("peers", "--json", node=ground.url).stdout)["ok"] is True


@pytest.mark.parametrize(
    ("query", "slug"),
    [
        ("hours=x", "bad-request"),
        ("hours=0", "bad-request"),
        ("hours=1e9", "bad-request"),
        ("peer=zz", "not-found"),
    ],
)
def test_contacts_of_nonsense(start_daemon: Start, query: str, slug: str) -> None:
    node = _mesh(start_daemon, "a", "mesh.position=1,2")
    assert node.request("GET", f"/v1/contacts?{query}").slug == slug


def test_without_a_mesh(start_daemon: Start) -> None:
    node = start_daemon()
    for path in ("/v1/peers", "/v1/contacts"):
        reply = node.request("GET", path)
        assert (reply.status, reply.slug) == (503, "unavailable")
    assert b"mesh.listen" in cli("peers", node=node.url).stderr


def test_beyond_loopback_not_without_keys(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "state", "mesh.listen=0.0.0.0:0", start=False)
    with pytest.raises(AssertionError) as refused:
        daemon.start()
    assert "edgeagent keys" in str(refused.value) + daemon.log_text()
    daemon.kill()


def test_seeds_without_listen_refuse_to_start_and_say_so(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "state", "mesh.seeds=127.0.0.1:8481", start=False)
    with pytest.raises(AssertionError) as refused:
        daemon.start()
    daemon.kill()
    done = cli("check-config", "--set", "mesh.seeds=127.0.0.1:8481")
    assert done.returncode == 2
    for says in (str(refused.value) + daemon.log_text(), done.stderr.decode()):
        assert "mesh.seeds" in says
        assert "without mesh.listen" in says


def test_two_nodes_with_one_id_notice(start_daemon: Start, tmp_path: Path) -> None:
    first = _mesh(start_daemon, "a")
    second = _mesh(start_daemon, "b", seed=first)
    second.wait_metric("edgeagent_mesh_members_alive", 1)
    double = tmp_path / "c"
    double.mkdir(mode=0o700)
    shutil.copy(tmp_path / "b" / "node-id", double / "node-id")
    third = _mesh(start_daemon, "c", seed=first)
    for _ in patience(180):  # some exchanges, of which there is one every ten seconds
        taken = [node.request("GET", "/v1/peers").json()["name_taken"] for node in (second, third)]
        if any(taken):
            break
    assert any(taken)


def test_emulated_orbits_hide_and_show_a_satellite(start_daemon: Start, tmp_path: Path) -> None:
    """A satellite over one station, 600 times as fast: occluded when it sets, alive when it rises, never dead."""
    begun = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
    emulate = f"mesh.emulate=600 since {begun.strftime('%Y-%m-%dT%H:%M:%SZ')}"
    common = (emulate, "mesh.isl=bent_pipe", "mesh.mask_deg=0")
    ground = _mesh(start_daemon, "ground", "mesh.position=0, 0", *common)
    orbit = _elements(tmp_path, MEAN_MOTION=13.0, INCLINATION=0.0)
    flying = _mesh(start_daemon, "flying", f"mesh.orbit={orbit}", *common, seed=ground)
    for state in ("occluded", "alive", "occluded"):
        ground.wait_metric(f"edgeagent_mesh_members_{state}", 1)
        seen = _peers(ground)[_id(flying)]
        assert seen["state"] != "dead"
    assert ground.metric("edgeagent_mesh_cut_off_total") > 0
    assert "dead" not in [json.loads(line).get("after") for line in _log_lines(ground)]


def _log_lines(node: Daemon) -> list[str]:
    return [line for line in node.log_text().splitlines() if line.startswith("{")]


def test_emulation_never_leaves_loopback(tmp_path: Path) -> None:
    daemon = Daemon(
        tmp_path / "state",
        "mesh.listen=127.0.0.1:0",
        "mesh.emulate=60 since 2020-01-01T00:00:00Z",
        start=False,
    )
    with pytest.raises(AssertionError) as refused:
        daemon.start()
    assert "within the last 24 hours" in str(refused.value) + daemon.log_text()
    daemon.kill()


@pytest.mark.parametrize(("days", "says"), [(4, "aged"), (20, "stale")])
def test_old_elements_are_said_to_be_old(start_daemon: Start, tmp_path: Path, days: int, says: str) -> None:
    epoch = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
    orbit = _elements(tmp_path, EPOCH=epoch.strftime("%Y-%m-%dT%H:%M:%S"))
    ground = _mesh(start_daemon, "ground", "mesh.position=48.2,16.4,171")
    flying = _mesh(start_daemon, "flying", f"mesh.orbit={orbit}", seed=ground)
    ground.wait_metric("edgeagent_mesh_members_alive", 1)
    place = None
    for _ in patience():
        place = _peers(ground)[_id(flying)]["place"]
        if place is not None:
            break
    assert place is not None
    assert (place["elements"], place["elements_age_days"]) == (says, days)
    assert f"elements {says} ({days}.0 days)".encode() in cli("peers", node=ground.url).stdout
    assert "own elements are old" in flying.log_text()


def test_a_command_says_where_the_node_is(start_daemon: Start, tmp_path: Path) -> None:
    file = tmp_path / "place"
    file.write_text("10, 20, 30")
    node = _mesh(start_daemon, "a", f"mesh.orbit_command=cat {file}", "mesh.orbit_every_ms=1000")

    def place() -> Any:
        return node.request("GET", "/v1/peers").json()["place"]

    for where in (10, 11):
        file.write_text(f"{where}, 20, 30")
        for _ in patience():
            said = place()
            if said and said["latitude_deg"] == where:
                break
        assert place() == {"kind": "ground", "latitude_deg": where, "longitude_deg": 20.0, "height_m": 30.0}
    file.unlink()
    for _ in patience():
        if "ended with 1" in node.log_text():
            break
        place()
    assert place()["latitude_deg"] == 11
    assert "what was known stays" in node.log_text()
