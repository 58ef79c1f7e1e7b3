"""A node whose disk is full: it says so, refuses what it could not keep, and lets functions go to make room."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.guests import wasm
from tests.integration.daemon import WASM, Daemon, Reply
from tests.integration.small_disk import play_on_a_small_disk

SIZE = "8m"


def test_a_node_on_a_full_disk(tmp_path: Path) -> None:
    play_on_a_small_disk(__name__, tmp_path, size=SIZE)


def _module(salt: int) -> bytes:
    """A module like no other, of about 100 KB: a custom section is anything."""
    content = b"\1x" + salt.to_bytes(2, "big") * 50_000
    size = len(content)
    return wasm("add1") + bytes([0, size & 127 | 128, size >> 7 & 127 | 128, size >> 14]) + content


def _fill(path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return


def _wear(daemon: Daemon, tag: str) -> Reply:
    """Keyed calls until one is refused; in between, what got free is taken by somebody else."""
    for number in range(3000):
        reply = daemon.invoke("f1", os.urandom(2000), Idempotency_Key=f"{tag}{number}")
        if reply.status != 200:
            return reply
    raise AssertionError("the disk never filled")


def _readiness(daemon: Daemon) -> tuple[int, str]:
    reply = daemon.request("GET", "/readyz")
    return reply.status, "".join(reply.json()["reasons"])


def _undeploy(daemon: Daemon, name: str) -> int:
    return daemon.request("DELETE", f"/v1/functions/{name}").status


def _play(disk: Path) -> None:
    daemon = Daemon(disk / "state", log=disk.with_suffix(".log"))  # not on the disk that gets full
    for number in range(10):
        assert daemon.request("PUT", f"/v1/functions/f{number}", _module(number), WASM).status == 201
    assert daemon.request("POST", "/functions/f1", b"a", {"Prefer": "respond-async"}).status == 202
    assert _readiness(daemon) == (200, "")
    ballast = disk / "ballast"
    _fill(ballast)
    assert _wear(daemon, "a").slug == "storage-full"
    assert _readiness(daemon)[0] == 503
    assert "disk" in _readiness(daemon)[1]
    assert daemon.request("GET", "/v1/functions/f1").status == 200
    assert daemon.request("PUT", "/v1/functions/new", _module(99), WASM).slug == "storage-full"
    assert _undeploy(daemon, "f9") == 204
    _fill(ballast)
    assert _wear(daemon, "b").slug == "storage-full"
    assert _undeploy(daemon, "f8") == 204
    _fill(ballast)
    daemon.kill()
    _fill(ballast)
    daemon.start()
    _fill(ballast)  # what the start made free: how long the log of the store was, the kill decided
    assert _readiness(daemon)[0] == 503
    listed = daemon.request("GET", "/v1/functions").json()["functions"]
    assert [one["name"] for one in listed] == [f"f{number}" for number in range(8)]
    assert _undeploy(daemon, "f7") == 204
    for name in ("f6", "f5", "f4", "f3"):  # the reserve lasts
        assert daemon.stop() == 0
        _fill(ballast)
        daemon.start()
        assert _undeploy(daemon, name) == 204
    ballast.unlink()
    assert _readiness(daemon) == (200, "")
    assert daemon.invoke("f1", b"a", Idempotency_Key="last").status == 200
    assert daemon.stop() == 0


if __name__ == "__main__":
    _play(Path(sys.argv[1]))
    print("ok")  # noqa: T201 - the answer
