"""Systems that run out of memory, mappings, descriptors or features: the bytes arrive, or an error says why not."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgeagent.bench.hose_guests import consumer, expected_sum, producer, request
from tests.conftest import engine_names
from tests.integration.daemon import WASM, Daemon, environment

MIB = 1 << 20
CHILD = Path(__file__).with_name("hose_faults_child.py")
REFUSED = Path(__file__).with_name("refused_calls.py")
SET_ASIDE_CHILD = Path(__file__).with_name("hose_set_aside_child.py")

pytestmark = pytest.mark.skipif("native" not in engine_names(), reason="the extension is not built")


@pytest.mark.parametrize(
    ("fault", "allowed"),
    [
        # A guest whose memory cannot grow gives up by a trap.
        ("maps", {"copy", "flip", "exchange", "unavailable", "guest-trap"}),
        ("memory", {"copy", "flip", "exchange", "unavailable", "guest-trap"}),
        ("files", {"copy", "flip", "exchange"}),
        ("file-size", {"copy", "flip", "exchange"}),
        ("no-thp", {"copy", "flip", "share", "exchange"}),
    ],
)
def test_the_process_lives_and_the_bytes_are_right(fault: str, allowed: set[str]) -> None:
    """The child checks every byte that arrives; afterwards all is as it was."""
    done = subprocess.run(
        [sys.executable, str(CHILD), fault], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["during"]) <= allowed
    assert found["after"] == found["before"]
    assert {"copy", "flip", "share"} == set(found["before"])


def test_windows_that_stay_keep_their_slots_until_they_are_gone() -> None:
    """No mappings left while guests hold windows: their stores are set aside, and come back afterwards."""
    done = subprocess.run(
        [sys.executable, str(SET_ASIDE_CHILD)], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["set aside"] == 2
    assert found["found by the next"] == [0], "the next tenant reads zeros"
    # Neither thread had ever run a guest: what it needs for that could not be had, or had been had in time.
    assert found["first call of a thread"] == "unavailable"
    assert found["first call of a worker"] in {"fine", "unavailable", "guest-trap"}


def test_stores_that_are_set_aside_are_told(tmp_path: Path) -> None:
    """The kernel never takes a window away: a log line, a metric, and calls go on until no slot is left."""
    broken = (
        "from edgeagent import native; native.core.break_for_tests(16);"
        "from edgeagent.__main__ import main; raise SystemExit(main())"
    )
    daemon = Daemon(tmp_path / "state", "runtime.large_slots=2", "runtime.small_slots=4", start=False)
    daemon.program = ("-c", broken)
    daemon.start()
    for name, wasm in (("produce", producer()), ("consume", consumer())):
        assert daemon.request("PUT", f"/v1/functions/{name}", wasm, WASM).status == 201
    reply = daemon.invoke("produce", request(3 * MIB, lent=True), Edgeagent_Then="consume")
    assert reply.body == expected_sum(3 * MIB)
    daemon.wait_metric("edgeagent_hose_quarantined_total", 2)
    while reply.status == 200:
        assert reply.body == expected_sum(3 * MIB)
        reply = daemon.invoke("produce", request(3 * MIB, lent=True), Edgeagent_Then="consume")
    assert (reply.status, reply.slug) == (503, "unavailable")
    assert daemon.metric("edgeagent_hose_quarantined_total") <= 6
    assert daemon.stop() == 0
    assert "instances are set aside" in daemon.log_text()


def broken_daemon(folder: Path, what: int) -> Daemon:
    """A node on a kernel that refuses the system calls of this bit set, from before its start."""
    daemon = Daemon(folder / "state", start=False)
    broken = (
        f"from edgeagent import native; native.core.break_for_tests({what});"
        "from edgeagent.__main__ import main; raise SystemExit(main())"
    )
    daemon.program = ("-c", broken)
    daemon.start()
    for name, wasm in (("produce", producer()), ("consume", consumer()), ("also", consumer())):
        assert daemon.request("PUT", f"/v1/functions/{name}", wasm, WASM).status == 201
    return daemon


def test_a_kernel_that_lacks_features_is_named_once_and_bytes_are_copied(tmp_path: Path) -> None:
    daemon = broken_daemon(tmp_path, 15)
    for lent in (True, False):
        reply = daemon.invoke("produce", request(3 * MIB, lent=lent), Edgeagent_Then="consume")
        assert reply.body == expected_sum(3 * MIB)
        assert reply.headers["edgeagent-hose"].startswith("copy;")
    assert daemon.metric("edgeagent_hose_quarantined_total") == 0
    assert daemon.stop() == 0
    assert daemon.log_text().count("the kernel lacks") == 1
    assert "MREMAP_DONTUNMAP" in daemon.log_text()


@pytest.mark.parametrize("lent", [True, False], ids=["lent", "plain"])
def test_a_kernel_that_refuses_seals_is_named_once_and_nothing_is_shared(tmp_path: Path, lent: bool) -> None:
    """Without seals there is no hose: what would be shared is copied; one consumer can still have the pages."""
    daemon = broken_daemon(tmp_path, 128)
    body = expected_sum(3 * MIB)
    reply = daemon.invoke("produce", request(3 * MIB, lent=lent), Edgeagent_Then="consume")
    assert reply.body == body
    assert reply.headers["edgeagent-hose"].split(";")[0] in {"flip", "exchange"}
    for _ in range(2):
        reply = daemon.invoke("produce", request(3 * MIB, lent=lent), Edgeagent_Then="consume+also")
        assert reply.body == b"".join(len(body).to_bytes(4, "little") + body for _ in range(2))
        assert reply.headers["edgeagent-hose"].split(";")[0] == "copy"
    assert daemon.stop() == 0
    assert daemon.log_text().count("the kernel lacks") == 1
    assert "seals of a memfd" in daemon.log_text()


@pytest.mark.parametrize(
    ("call", "why", "tiers"),
    [
        ("memfd_create", errno.ENOSYS, {"copy", "flip", "exchange"}),
        ("memfd_create", errno.EPERM, {"copy", "flip", "exchange"}),
        ("mremap", errno.EPERM, {"copy", "share"}),
    ],
)
def test_a_sandbox_that_refuses_a_call_costs_copies(
    tmp_path: Path, call: str, why: int, tiers: set[str]
) -> None:
    """By a filter of system calls, not by a switch of ours: deploying, chains, several at once and joins go on."""
    daemon = Daemon(tmp_path / "state", start=False)
    daemon.program = (str(REFUSED), call, str(why), "-m", "edgeagent")
    daemon.start()
    for name, wasm in (("produce", producer()), ("consume", consumer())):
        assert daemon.request("PUT", f"/v1/functions/{name}", wasm, WASM).status == 201
    assert daemon.deploy("echo").status == 201
    for count in (40_064, 3 * MIB):
        for lent in (True, False):
            reply = daemon.invoke("produce", request(count, lent=lent), Edgeagent_Then="consume")
            assert reply.body == expected_sum(count)
            assert reply.headers["edgeagent-hose"].split(";")[0] in tiers
        reply = daemon.invoke("produce", request(count, lent=True), Edgeagent_Then="echo+echo,echo")
        assert reply.status == 200, reply.body
        item = bytes([1]) * count
        assert reply.body == 2 * (len(item).to_bytes(4, "little") + item)
    assert daemon.stop() == 0
    assert daemon.log_text().count("the kernel lacks") == 1
    assert call in daemon.log_text()


def test_without_any_memory_for_hoses_bytes_are_copied(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path / "state", "hose.pool_bytes_max=0")
    assert daemon.request("PUT", "/v1/functions/produce", producer(), WASM).status == 201
    assert daemon.deploy("echo").status == 201
    reply = daemon.invoke("produce", request(3 * MIB, lent=True), Edgeagent_Then="echo+echo")
    item = bytes([1]) * (3 * MIB)
    assert reply.body == 2 * (len(item).to_bytes(4, "little") + item)
    assert daemon.stop() == 0
