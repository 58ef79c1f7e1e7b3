"""Other processes feed a daemon's functions through its hose socket, and are fed by them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeagent.hose.client import Hose, library_path
from tests.guests import wasm
from tests.integration.daemon import Daemon, environment

MIB = 1 << 20
DRIVER = Path(__file__).with_name("hose_client.py")
WAIT_S = 60.0

pytestmark = pytest.mark.skipif(not library_path().is_file(), reason="libedgehose.so is not built")


@pytest.fixture
def fed(start_daemon: Callable[..., Daemon], tmp_path: Path) -> Daemon:
    # A path of its own: that of a test's directory may be too long for a socket.
    path = f"/tmp/edge-{os.getpid()}-{tmp_path.name[-8:]}.sock"
    daemon = start_daemon(f"hose.socket={path}", "http.body_bytes_max=1000000")
    daemon.deploy("add1", manifest='[hose]\ninput = "frames"\noutput = "answers"\n')
    return daemon


def _socket(daemon: Daemon) -> str:
    return str(daemon.request("GET", "/v1/node").json()["hose_socket"])


@pytest.mark.parametrize("count", [3, 60_000])
def test_a_frame_goes_through_a_function(fed: Daemon, count: int) -> None:
    path = _socket(fed)
    with Hose.attach(path, "answers", role="consumer") as answers, Hose.attach(path, "frames") as frames:
        for value in (1, 7, 254):
            loan = frames.loan(count)
            loan.data[:] = bytes([value]) * count
            loan.publish(count)
            with answers.take(timeout_s=WAIT_S) as taken:
                assert bytes(taken.data) == bytes([value + 1]) * count
    assert fed.metric("edgeagent_hose_handovers_total") >= 3


def test_a_large_frame_is_mapped_and_its_answer_too(fed: Daemon) -> None:
    count = 6 * MIB
    source = wasm("hose_invert")
    boundary = "edge"
    manifest = '[function]\nname = "invert"\n[hose]\ninput = "raw"\noutput = "inverted"\n'
    parts = [("wasm", source), ("manifest", manifest.encode())]
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{part}"\r\n\r\n'.encode() + data + b"\r\n"
        for part, data in parts
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    done = fed.request("PUT", "/v1/functions/invert", body + f"--{boundary}--\r\n".encode(), headers)
    assert done.status == 201, done.body
    path = _socket(fed)
    with Hose.attach(path, "inverted", role="consumer") as answers, Hose.attach(path, "raw") as frames:
        loan = frames.loan(count)
        loan.data[:] = b"\x0f" * count
        loan.publish(count)
        with answers.take(timeout_s=WAIT_S) as taken:
            assert bytes(taken.data) == b"\xf0" * count
    from edgeagent import native

    if native.accelerated:
        assert fed.metric("edgeagent_hose_mapped_bytes_total") == count


def test_a_process_that_dies_costs_its_own_frames_only(fed: Daemon) -> None:
    path = _socket(fed)
    with Hose.attach(path, "answers", role="consumer") as answers:
        victim = subprocess.Popen(
            [sys.executable, str(DRIVER), path, "frames", "producer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert victim.stdin is not None
        assert victim.stdout is not None
        assert victim.stdout.readline() == "ok\n"
        for line in ("loan 1000", "fill 5", "publish 1000", "loan 5000000"):
            victim.stdin.write(line + "\n")
            victim.stdin.flush()
            assert victim.stdout.readline().startswith("ok")
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        victim.stdin.close()
        victim.stdout.close()
        with answers.take(timeout_s=WAIT_S) as taken:
            assert bytes(taken.data) == b"\6" * 1000
        with Hose.attach(path, "frames") as frames:
            loan = frames.loan(10)
            loan.data[:] = bytes(10)
            loan.publish(10)
            with answers.take(timeout_s=WAIT_S) as taken:
                assert bytes(taken.data) == b"\1" * 10
    fed.wait_metric("edgeagent_engine_live_instances", 0)


def test_what_fails_is_counted_and_the_next_frame_runs(fed: Daemon) -> None:
    assert fed.deploy("trap", manifest='[hose]\ninput = "bad"\n').status == 201
    path = _socket(fed)
    with Hose.attach(path, "bad") as frames:
        for _ in range(2):
            loan = frames.loan(8)
            loan.publish(8)
    fed.wait_metric("edgeagent_hose_frames_failed_total", 2)
    assert "a message was not worked off" in fed.log_text()


def test_frames_that_no_function_takes_are_counted(fed: Daemon) -> None:
    with Hose.attach(_socket(fed), "frames") as frames:
        assert fed.request("DELETE", "/v1/functions/add1").status == 204
        frames.loan(8).publish(8)
        fed.wait_metric("edgeagent_hose_frames_failed_total", 1)
    assert "no function takes this hose" in fed.log_text()


def test_nobody_attaches_to_a_hose_that_no_function_names(fed: Daemon) -> None:
    with pytest.raises(OSError, match="no hose nobody"):
        Hose.attach(_socket(fed), "nobody")


def test_without_a_socket(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon("hose.socket=off")
    assert _socket(daemon) == ""


def test_two_nodes_with_one_socket(fed: Daemon, tmp_path: Path) -> None:
    other = subprocess.run(
        [
            sys.executable,
            "-m",
            "edgeagent",
            "run",
            "--listen",
            "127.0.0.1:0",
            "--state-dir",
            str(tmp_path / "other"),
            "--set",
            f"node.cache_dir={tmp_path}/other-cache",
            "--set",
            f"hose.socket={_socket(fed)}",
        ],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=WAIT_S,
        check=False,
    )
    assert other.returncode in {1, 2}
    assert "another process listens" in other.stderr


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ('input = "A b"', "hose.input must be"),
        ('output = "x/y"', "hose.output must be"),
        ('input = "a"\noutput = "a"', "feed itself"),
        ('inputs = "a"', "did you mean 'input'"),
    ],
)
def test_manifests_that_are_refused(fed: Daemon, section: str, says: str) -> None:
    reply = fed.deploy("add1", "other", manifest=f"[hose]\n{section}\n")
    assert (reply.status, reply.slug) == (422, "manifest-refused")
    assert says in reply.body.decode()


def test_users_that_are_no_numbers(fed: Daemon, tmp_path: Path) -> None:
    settings = {"node.cache_dir": f"{tmp_path}/c", "hose.peer_uids": "1000,root"}
    command = [sys.executable, "-m", "edgeagent", "run", "--listen", "127.0.0.1:0"]
    command += ["--state-dir", str(tmp_path / "o")]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    other = subprocess.run(
        command, capture_output=True, text=True, env=environment(), timeout=WAIT_S, check=False
    )
    assert other.returncode in {1, 2}
    assert "hose.peer_uids = '1000,root' is not numbers" in other.stderr
