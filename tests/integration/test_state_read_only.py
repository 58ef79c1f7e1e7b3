"""A file system that becomes read-only under a daemon that runs: it says so, serves reads, and goes on when it may."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.daemon import Daemon, Reply

COMPILER = shutil.which("cc") or ""
SOURCE = Path(__file__).with_name("read_only.c")
LARGE = bytes(range(256)) * 2000  # in chunks


def _readiness(daemon: Daemon) -> tuple[int, list[str]]:
    reply = daemon.request("GET", "/readyz")
    return reply.status, reply.json()["reasons"]


def _put(daemon: Daemon, key: str, value: bytes) -> Reply:
    return daemon.request("PUT", f"/v1/state/{key}", value)


@pytest.mark.skipif(not COMPILER, reason="no C compiler")
def test_writes_are_refused_and_reads_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library, switch = tmp_path / "read_only.so", tmp_path / "switch"
    subprocess.run(
        [
            COMPILER,
            "-std=gnu11",
            "-Wall",
            "-Werror",
            "-shared",
            "-fPIC",
            str(SOURCE),
            "-o",
            str(library),
            "-ldl",
        ],
        check=True,
    )
    monkeypatch.setenv("READ_ONLY_BELOW", str(tmp_path / "node/"))
    monkeypatch.setenv("READ_ONLY_WHEN", str(switch))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    daemon = Daemon(tmp_path / "node", log=tmp_path / "log")
    try:
        assert _put(daemon, "small", b"1").status == _put(daemon, "large", LARGE).status == 200
        assert _readiness(daemon) == (200, [])
        switch.touch()
        # Before anything was written, too.
        assert _readiness(daemon) == (503, ["the file system of the state directory is read-only"])
        for value in (b"2", os.urandom(300_000)):
            refused = _put(daemon, "small", value)
            assert (refused.status, refused.slug) == (503, "store-read-only"), refused.body
        assert daemon.request("DELETE", "/v1/state/small").slug == "store-read-only"
        assert daemon.request("GET", "/v1/state/small").body == b"1"
        assert daemon.request("GET", "/v1/state/large").body == LARGE
        assert [one["key"] for one in daemon.request("GET", "/v1/state?prefix=").json()["keys"]] == [
            "large",
            "small",
        ]
        switch.unlink()
        assert _readiness(daemon) == (200, [])
        assert _put(daemon, "small", b"3").status == _put(daemon, "other", LARGE[1:]).status == 200
        assert daemon.request("GET", "/v1/state/small").body == b"3"
        switch.touch()
        assert daemon.stop() == 0
        switch.unlink()
        daemon.start()
        assert daemon.request("GET", "/v1/state/other").body == LARGE[1:]
    finally:
        daemon.stop()
