"""Daemons with a ground store, and one whose damaged store is mended by the command line."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon import Daemon, cli, patience
from tests.integration.test_state import get, put

SERVER = next((found for name in ("valkey-server", "redis-server") if (found := shutil.which(name))), None)
needs_server = pytest.mark.skipif(SERVER is None, reason="no redis-server or valkey-server on PATH")
LARGE = random.Random(8).randbytes(300_000)


class Ground:
    """A server that can be away."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.url = f"unix://{folder}/r.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert SERVER is not None
        words = ["--port", "0", "--unixsocket", "r.sock", "--save", "", "--appendonly", "yes"]
        self._process = subprocess.Popen(
            [SERVER, *words, "--appendfsync", "always"], cwd=self._folder, stdout=subprocess.DEVNULL
        )
        for _ in patience():
            if (self._folder / "r.sock").exists():
                return

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            (self._folder / "r.sock").unlink(missing_ok=True)
            self._process = None


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path / "ground")
    yield made
    made.stop()


@needs_server
def test_a_daemon_writes_to_the_ground_and_reads_what_it_has_lost(tmp_path: Path, ground: Ground) -> None:
    pytest.importorskip("redis")
    ground.start()
    (tmp_path / "c.toml").write_text(f'[state.ground]\nurl = "{ground.url}"\n')
    one = Daemon(tmp_path / "one", f"state.ground_url={ground.url}", start=False)
    checked = cli("check-config", "--config", str(tmp_path / "c.toml"), "--json")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert ground.url in checked.stdout.decode()
    one.start()
    for key, value in (("g/x", b"small"), ("g/y", LARGE), ("runs/r/x", b"once")):
        wrote = put(one, key, value, Edgeagent_Durability="ground", Edgeagent_Deadline_Ms="20000")
        assert (wrote.status, wrote.headers["edgeagent-durability"]) == (200, "ground"), wrote.body
    assert one.request("GET", "/v1/state:where?key=g/x").json()["durability"] == "ground"
    put(one, "g/gone", b"v", Edgeagent_Durability="ground", Edgeagent_Deadline_Ms="20000")
    assert one.request("DELETE", "/v1/state/g/gone").status == 204
    one.wait_metric("edgeagent_state_ground_waiting", 0)
    one.kill()
    shutil.rmtree(tmp_path / "one")  # its disk is lost
    one.start()
    assert [get(one, key).body for key in ("g/x", "g/y")] == [b"small", LARGE]
    assert get(one, "g/gone").status == 404
    assert put(one, "runs/r/x", b"other").slug == "state-key-taken"
    ground.stop()
    late = put(one, "g/z", b"v", Edgeagent_Durability="ground", Edgeagent_Deadline_Ms="300")
    assert (late.status, late.slug, late.json()["durability"]) == (504, "state-not-durable", "local")
    assert get(one, "g/z").body == b"v"
    assert get(one, "g/none").status == 404
    one.kill()
    one.start()
    assert one.metric("edgeagent_state_ground_waiting") == 1
    ground.start()
    one.wait_metric("edgeagent_state_ground_waiting", 0)
    assert put(one, "g/z", b"w", Edgeagent_Durability="ground").headers["edgeagent-durability"] == "ground"
    one.stop()
    assert "Traceback" not in one.log_text()


def test_a_damaged_store_stops_the_start_with_the_command_that_mends_it(tmp_path: Path) -> None:
    one = Daemon(tmp_path / "n")
    for number in range(200):
        assert put(one, f"k/{number}", b"%d" % number * 200).status == 200
    put(one, "large", LARGE)
    one.stop()
    state = tmp_path / "n" / "state"
    with sqlite3.connect(state / "state.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    raw = bytearray((state / "state.db").read_bytes())
    raw[8192 : 8192 + 4096] = bytes(4096)
    raw[20_480 : 20_480 + 64] = b"\xff" * 64
    (state / "state.db").write_bytes(raw)
    one.spawn()
    assert one.process.stdout is not None
    said = one.process.stdout.readline() + one.log_text()
    one.process.wait(30)
    assert f"edgeagent state repair {state}" in said
    one.stop()
    done = cli("state", "repair", str(state), "--json")
    told: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    one.start()
    found = [get(one, f"k/{number}") for number in range(200)]
    kept = [number for number, one_ in enumerate(found) if one_.status == 200]
    assert len(kept) > 100, told
    assert all(found[number].body == b"%d" % number * 200 for number in kept)
    one.stop()
