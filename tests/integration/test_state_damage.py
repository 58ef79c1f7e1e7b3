"""A disk that has changed what was written, as callers and the operator see it."""

from __future__ import annotations

import json
import random
import sqlite3
from pathlib import Path

from tests.integration.daemon import Daemon, cli
from tests.integration.test_state import get, group, put

LARGE = random.Random(9).randbytes(300_000)


def test_a_value_that_is_damaged_where_nobody_else_has_it_is_said_to_be_so(tmp_path: Path) -> None:
    node = Daemon(tmp_path / "n")
    for key, value in (("d/large", LARGE), ("d/small", b"s" * 500), ("d/row", b"r"), ("d/sound", b"v")):
        assert put(node, key, value).status == 200
    node.stop()
    state = tmp_path / "n" / "state"
    (segment,) = (state / "segments").glob("*.seg")
    raw = bytearray(segment.read_bytes())
    raw[100_000] ^= 1
    segment.write_bytes(raw)
    with sqlite3.connect(state / "state.db") as connection:
        connection.execute("UPDATE entries SET value = zeroblob(500) WHERE key = 'd/small'")
        connection.execute("UPDATE entries SET crc = crc + 1 WHERE key = 'd/row'")
    connection.close()
    node.start()
    for key in ("d/large", "d/small", "d/row"):
        read = get(node, key)
        assert (read.status, read.slug) == (503, "state-value-damaged"), (key, read.body)
        several = group(node, {"op": "get", "key": "d/sound"}, {"op": "get", "key": key})
        assert several.slug == "state-value-damaged"
    assert get(node, "d/sound").body == b"v"
    assert get(node, "d/none").status == 404
    assert node.stop() == 0
    assert "Traceback" not in node.log_text()


def test_a_damaged_note_stops_the_start_with_the_command_that_mends_it(tmp_path: Path) -> None:
    node = Daemon(tmp_path / "n", "mesh.listen=127.0.0.1:0", "mesh.preset=local")
    assert put(node, "d/x", b"v").status == 200
    node.stop()
    state = tmp_path / "n" / "state"
    with sqlite3.connect(state / "state.db") as connection:
        connection.execute(
            "INSERT INTO notes (space, name, crc, value) VALUES ('obligations', 'n', 1, x'00')"
        )
    connection.close()
    node.spawn()
    assert node.process.stdout is not None
    said = node.process.stdout.readline() + node.log_text()
    node.process.wait(30)
    node.stop()
    assert f"edgeagent state repair {state}" in said, said
    assert json.loads(cli("state", "repair", str(state), "--json").stdout)["entries"] == 1
    node.start()
    assert get(node, "d/x").body == b"v"
    node.stop()
    assert "Traceback" not in node.log_text()
