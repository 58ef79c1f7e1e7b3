"""``edgeagent elements``: an operator's newer elements reach every node, the satellite itself included."""

from __future__ import annotations

import datetime
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon import Daemon, cli, patience

Start = Callable[..., Daemon]
NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def omm(folder: Path, name: str, hours_ago: float, number: int = 50001) -> Path:
    epoch = (NOW - datetime.timedelta(hours=hours_ago)).strftime("%Y-%m-%dT%H:%M:%S.000000")
    fields = {
        "OBJECT_NAME": "ONE", "OBJECT_ID": "2020-001A", "EPOCH": epoch, "MEAN_MOTION": 15.2, "ECCENTRICITY": 0.0005,
        "INCLINATION": 53.0, "RA_OF_ASC_NODE": 100.0, "ARG_OF_PERICENTER": 80.0, "MEAN_ANOMALY": 10.0,
        "EPHEMERIS_TYPE": 0, "CLASSIFICATION_TYPE": "U", "NORAD_CAT_ID": number, "ELEMENT_SET_NO": 1,
        "REV_AT_EPOCH": 1, "BSTAR": 0.0001, "MEAN_MOTION_DOT": 0.0, "MEAN_MOTION_DDOT": 0.0,
    }  # fmt: skip
    (folder / name).write_text(json.dumps([fields]))
    return folder / name


def shown(hours_ago: float) -> str:
    return (NOW - datetime.timedelta(hours=hours_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def operator(tmp_path: Path) -> tuple[Path, str]:
    """The folder of an operator, and its public key."""
    assert cli("keys", "init", str(tmp_path / "cluster")).returncode == 0
    done = cli(
        "keys",
        "issue",
        str(tmp_path / "cluster"),
        "--operator",
        "olga",
        "--out",
        str(tmp_path / "olga"),
        "--json",
    )
    assert done.returncode == 0, done.stderr
    return tmp_path / "olga", json.loads(done.stdout)["public_key"]


def elements(node: Daemon, folder: Path | None, *words: object) -> subprocess.CompletedProcess[bytes]:
    keys = () if folder is None else ("--keys", str(folder))
    return cli("elements", *map(str, words), *keys, "--node", node.url, "--json")


def epoch_of(node: Daemon, member: str) -> Any:
    view = node.request("GET", "/v1/peers").json()
    place = next((one["place"] for one in view["peers"] if one["id"] == member), None)
    place = view["place"] if member == view["node"] else place
    return place and place["epoch"]


def wait_epoch(node: Daemon, member: str, epoch: str) -> None:
    for _ in patience():
        if epoch_of(node, member) == epoch:
            return
    raise AssertionError(f"{epoch_of(node, member)} is not {epoch}")


def test_newer_elements_reach_everybody(
    start_daemon: Start, operator: tuple[Path, str], tmp_path: Path
) -> None:
    folder, public = operator
    common = ("mesh.listen=127.0.0.1:0", "mesh.preset=local", f"mesh.operators={public}")
    ground = start_daemon(*common, "mesh.position=48.2, 16.4, 171", state="ground")
    seed = f"mesh.seeds={ground.request('GET', '/v1/peers').json()['address']}"
    flying = start_daemon(*common, seed, f"mesh.orbit={omm(tmp_path, 'own.json', 30)}", state="flying")
    sat = str(flying.request("GET", "/v1/node").json()["id"])
    wait_epoch(ground, sat, shown(30))
    done = elements(ground, folder, omm(tmp_path, "new.json", 2))
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["sent"] == [
        {"node": sat, "object": "ONE (norad:50001)", "epoch": shown(2)}
    ]
    for node in (ground, flying):
        wait_epoch(node, sat, shown(2))
    done = elements(ground, folder, omm(tmp_path, "old.json", 20))
    told = json.loads(done.stdout)
    assert (told["sent"], len(told["held"])) == ([], 1)
    assert epoch_of(ground, sat) == shown(2)
    flying.kill()
    flying.start()  # it knows its own old file only, and hears the rest
    wait_epoch(flying, sat, shown(2))
    assert flying.request("GET", "/v1/peers").json()["name_taken"] is False
    another = omm(tmp_path, "named.json", 1, number=60000)
    done = elements(ground, folder, another, "--of", f"{sat[:8]}=60000")
    assert done.returncode == 0, done.stdout
    wait_epoch(ground, sat, shown(1))


def test_what_is_refused(start_daemon: Start, operator: tuple[Path, str], tmp_path: Path) -> None:
    folder, public = operator
    other = tmp_path / "other"
    assert (
        cli("keys", "issue", str(tmp_path / "cluster"), "--operator", "o", "--out", str(other)).returncode
        == 0
    )
    node = start_daemon(
        "mesh.listen=127.0.0.1:0", f"mesh.operators={public}", f"mesh.orbit={omm(tmp_path, 'own.json', 30)}"
    )
    new, me = omm(tmp_path, "new.json", 2), str(node.request("GET", "/v1/node").json()["id"])
    (tmp_path / "bad.json").write_text("[]")
    for keys, words, says in (
        (other, (new,), "not signed by an operator"),
        (None, (new,), "operator's keys"),
        (tmp_path, (new,), "node.key"),
        (folder, (tmp_path / "nowhere.json",), "No such file"),
        (folder, (tmp_path / "bad.json",), "bad.json"),
        (folder, (new, "--of", "zzz=50001"), "stands for 0 nodes"),
        (folder, (new, "--of", me), "stands for"),
        (folder, (new, "--of", f"{me}=9"), "stands for 0 of the 1 sets"),
    ):
        done = elements(node, keys, *words)
        assert done.returncode != 0, words
        assert says in json.loads(done.stdout)["problem"]["detail"], done.stdout
        assert b"Traceback" not in done.stderr
    assert epoch_of(node, me) == shown(30)
    done = elements(node, folder, omm(tmp_path, "strange.json", 2, number=7))
    assert json.loads(done.stdout)["sent"] == []


@pytest.mark.parametrize(
    "body", [b"", b"x", b"\x97\x01\xa1\x80\x05\x01\xc4\x00\xc4\x00\x00", bytes(1400), bytes(1401)]
)
def test_bodies_that_are_none(start_daemon: Start, body: bytes) -> None:
    node = start_daemon("mesh.listen=127.0.0.1:0")
    reply = node.request("POST", "/v1/elements", body)
    assert reply.status in {400, 413}
    assert reply.slug


def test_without_a_mesh(start_daemon: Start) -> None:
    assert start_daemon().request("POST", "/v1/elements", b"x").status == 503


def _above(name: str, turns_a_day: float, folder: Path) -> tuple[Path, float]:
    """A file with an equatorial satellite that is above some longitude now, which is returned too."""
    from edgeagent.orbit.geodetic import geodetic_of
    from edgeagent.orbit.importer import read_elements
    from edgeagent.orbit.nodes import Satellite

    fields = {
        "OBJECT_NAME": name, "OBJECT_ID": "2020-001A", "EPOCH": NOW.strftime("%Y-%m-%dT%H:%M:%S.000000"),
        "MEAN_MOTION": turns_a_day, "ECCENTRICITY": 0.0001, "INCLINATION": 0.01, "RA_OF_ASC_NODE": 10.0,
        "ARG_OF_PERICENTER": 20.0, "MEAN_ANOMALY": 30.0, "EPHEMERIS_TYPE": 0, "CLASSIFICATION_TYPE": "U",
        "NORAD_CAT_ID": 50001, "ELEMENT_SET_NO": 1, "REV_AT_EPOCH": 1, "BSTAR": 0.0, "MEAN_MOTION_DOT": 0.0,
        "MEAN_MOTION_DDOT": 0.0,
    }  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps([fields]))
    (elements_,) = read_elements((folder / f"{name}.json").read_bytes())
    now_s = datetime.datetime.now(datetime.UTC).timestamp()
    _, longitude, _ = geodetic_of(Satellite("x", elements_).positions_km([now_s])[0])
    return folder / f"{name}.json", float(longitude)


def test_a_satellite_that_is_nearer_than_its_elements_say_is_not_predicted_any_more(
    start_daemon: Start, operator: tuple[Path, str], tmp_path: Path
) -> None:
    """The ground is told that the satellite is in a geostationary orbit, and its round trips say otherwise."""
    folder, public = operator
    own, longitude = _above("MEO", 6.0, tmp_path)
    wrong, _ = _above("GEO", 1.0027, tmp_path)
    wrong.write_text(wrong.read_text().replace('000000"', '500000"'))  # half a second newer
    emulate = f"mesh.emulate=1 since {NOW.strftime('%Y-%m-%dT%H:%M:%SZ')}"
    common = ("mesh.listen=127.0.0.1:0", "mesh.preset=lan", emulate)
    ground = start_daemon(
        *common, f"mesh.operators={public}", f"mesh.position=0, {longitude:.3f}, 0", state="ground"
    )
    seed = f"mesh.seeds={ground.request('GET', '/v1/peers').json()['address']}"
    flying = start_daemon(*common, seed, f"mesh.orbit={own}", state="flying")
    sat = str(flying.request("GET", "/v1/node").json()["id"])
    for _ in patience():
        if ground.request("GET", "/v1/peers").json()["predicted_until"]:
            break
    assert ground.metric("edgeagent_mesh_contradicted_total") == 0
    assert elements(ground, folder, wrong).returncode == 0
    ground.wait_metric("edgeagent_mesh_contradicted_total", 1)
    (peer,) = ground.request("GET", "/v1/peers").json()["peers"]
    assert peer["id"] == sat
    assert peer["contradicted"] is True
    assert peer["place"] is None
    assert "measurements contradict" in ground.log_text()
    listed = cli("peers", "--node", ground.url)
    assert b"elements contradicted" in listed.stdout
    later = NOW + datetime.timedelta(seconds=10)
    own.write_text(
        own.read_text().replace(NOW.strftime("%H:%M:%S.000000"), later.strftime("%H:%M:%S.000000"))
    )
    assert elements(ground, folder, own, "--of", f"{sat}=50001").returncode == 0
    (peer,) = ground.request("GET", "/v1/peers").json()["peers"]
    assert peer["contradicted"] is False
    assert peer["place"]["object"] == "MEO (norad:50001)"


def test_requests_take_the_time_of_emulated_links(start_daemon: Start, tmp_path: Path) -> None:
    """A geostationary satellite is a quarter of a second there and back, and below the horizon for the other side."""
    orbit, longitude = _above("GEO", 1.0027, tmp_path)
    common = (
        "mesh.listen=127.0.0.1:0", "mesh.preset=lan", "mesh.isl=bent_pipe", "mesh.ground_network=false",
        f"mesh.emulate=1 since {NOW.strftime('%Y-%m-%dT%H:%M:%SZ')}",
    )  # fmt: skip
    flying = start_daemon(*common, f"mesh.orbit={orbit}", state="flying")
    assert flying.deploy("add1").status == 201
    seed = f"mesh.seeds={flying.request('GET', '/v1/peers').json()['address']}"
    peer = f"hose.peers=sat={flying.url}"
    below, opposite = (
        start_daemon(*common, seed, peer, f"mesh.position=0, {east:.3f}, 0", state=name)
        for name, east in (("below", longitude), ("opposite", (longitude + 360.0) % 360.0 - 180.0))
    )
    for node in (below, opposite):
        for _ in patience():
            view = node.request("GET", "/v1/peers").json()
            if view["predicted_until"] and any(one["place"] for one in view["peers"]):
                break
    begun = time.monotonic()
    reply = below.invoke("add1@sat", b"A")
    assert (reply.status, reply.body) == (200, b"B")
    assert time.monotonic() - begun > 0.23
    reply = opposite.invoke("add1@sat", b"A")
    assert (reply.status, reply.slug) == (502, "peer-failed")
    assert "no route leads" in reply.json()["detail"]
    assert "contact is" in reply.json()["hint"]
