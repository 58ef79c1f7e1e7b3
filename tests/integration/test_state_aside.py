"""Values that lost a conflict: they are listed, shown, and forgotten only by who names them."""

from __future__ import annotations

import base64
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.daemon import Daemon, cli, environment

JSON = {"Content-Type": "application/json"}
LARGE = os.urandom(200_000)


def conflict(daemon: Daemon, key: str, lost: bytes) -> str:
    """A key written once, and again under a later epoch; the version that lost."""
    for epoch, value in ((0, lost), (1, b"stays")):
        op = {
            "op": "put",
            "key": key,
            "value": base64.b64encode(value).decode(),
            "mode": "once",
            "epoch": epoch,
        }
        reply = daemon.request("POST", "/v1/state:group", json.dumps({"ops": [op]}).encode(), JSON)
        assert reply.status == 200, reply.body
    (value_aside,) = daemon.request("GET", f"/v1/state:aside?key={key}").json()["values"]
    assert (value_aside["size_bytes"], value_aside["mode"]) == (len(lost), "once")
    return str(value_aside["version"])


@pytest.mark.parametrize("lost", [b"lost", LARGE], ids=["small", "large"])
def test_over_http(daemon: Daemon, lost: bytes) -> None:
    key = f"conflict/{len(lost)}"
    version = conflict(daemon, key, lost)
    one = f"/v1/state:aside?key={key}&version={version}"
    assert daemon.request("GET", one).body == lost
    assert daemon.request("GET", f"/v1/state/{key}").body == b"stays"
    other = f"/v1/state:aside?key={key}&version=1.0.n"
    assert daemon.request("GET", other).status == daemon.request("DELETE", other).status == 404
    for bad in (f"?key={key}", f"?key={key}&version=x", f"?key=//&version={version}"):
        assert daemon.request("DELETE", f"/v1/state:aside{bad}").status == 400
    assert daemon.request("DELETE", one).status == 204
    assert daemon.request("DELETE", one).status == daemon.request("GET", one).status == 404
    assert daemon.request("GET", f"/v1/state/{key}").body == b"stays"


def test_by_the_command_line(daemon: Daemon, tmp_path: Path) -> None:
    key = "conflict/cli"
    version = conflict(daemon, key, b"lost")

    def aside(*words: str) -> subprocess.CompletedProcess[bytes]:
        return cli("state", "aside", key, *words, node=daemon.url)

    assert version in aside().stdout.decode()
    assert json.loads(aside("--json").stdout)["values"][0]["version"] == version
    assert aside("--show", version).stdout == b"lost"
    assert aside("--show", version, "--json").returncode == 1
    assert aside("--show", version, "--out", str(tmp_path / "value"), "--json").returncode == 0
    assert aside("--show", version, "--out", str(tmp_path / "value")).returncode == 0
    assert (tmp_path / "value").read_bytes() == b"lost"
    for words in (("--drop", version), ("--drop", version, "--json")):
        refused = aside(*words)
        assert refused.returncode == 1
        assert b"--yes" in refused.stderr + refused.stdout
    assert _typed(daemon, key, version, "conflict") == 1
    assert aside("--show", version).returncode == 0, "it is still there"
    assert _typed(daemon, key, version, key) == 0
    assert aside().stdout.decode() == "no values are set aside here\n"
    version = conflict(daemon, f"{key}2", b"lost")
    dropped = cli("state", "aside", f"{key}2", "--drop", version, "--yes", "--json", node=daemon.url)
    assert json.loads(dropped.stdout)["ok"]


def _typed(daemon: Daemon, key: str, version: str, answer: str) -> int:
    """The exit status where somebody at a terminal types this."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "edgeagent", "state", "aside", key, "--drop", version]
    process = subprocess.Popen(
        [*command, "--node", daemon.url], stdin=theirs, stdout=subprocess.DEVNULL, env=environment()
    )
    os.close(theirs)
    os.write(ours, answer.encode() + b"\n")
    code = process.wait(60)
    os.close(ours)
    return code
