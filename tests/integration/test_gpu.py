"""GPU as a service through the door: a real daemon, whose GPU is a double in a broker process that fails on command."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeagent.accel.descriptors import Description, contiguous
from edgeagent.accel.dtypes import Dtype
from tests.contract.accel_calls import DATA, accel_guest, program
from tests.guest_frames import pack_call
from tests.integration.daemon import Daemon, Reply, cli, patience
from tests.unit.accel.gpu_double import calls_done, command

# Whole numbers: numpy has no library for their product, and takes tens of milliseconds; the double takes a few.
SIZE = 320
BYTES = SIZE * SIZE * 8
START = DATA + 1024


class Product:
    """A call of matmul by the guest of the contract tests, and whether a reply is its product."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.a, self.b = (rng.integers(-9, 9, (SIZE, SIZE)) for _ in range(2))
        one, two, out = (contiguous(START + place * BYTES, Dtype.I64, (SIZE, SIZE)) for place in range(3))
        described = pack_call(Description((one, two), (out,)))
        data = (b"matmul" + described).ljust(START - DATA, b"\0") + self.a.tobytes() + self.b.tobytes()
        show = out.range[1] - DATA
        self.at = 24 + out.offset - DATA
        self.body = program("call", DATA, 6, DATA + 6, len(described), data=data, show=show)

    def check(self, reply: Reply) -> str:
        """The backend that the reply names."""
        assert reply.status == 200, reply.body
        assert struct.unpack_from("<i", reply.body)[0] == 0
        got = np.frombuffer(reply.body[self.at :], "int64").reshape(SIZE, SIZE)
        assert (got == self.a @ self.b).all()
        return reply.headers["edgeagent-backend"]


PRODUCTS = [Product(seed) for seed in range(3)]


class Rig:
    def __init__(self, folder: Path, *settings: str) -> None:
        self.commands = folder / "gpu"
        self.commands.mkdir()
        self.daemon = Daemon(folder / "state", "accel.deadline_ms=2000", *settings, start=False)
        self.daemon.program = ("-m", "tests.integration.gpu_daemon", str(self.commands))
        self.daemon.start()

    def deploy(self, name: str, mode: str) -> None:
        manifest = f'[function]\nname = "{name}"\n[accel]\nmode = "{mode}"\n'
        parts = {"wasm": accel_guest(pages=50), "manifest": manifest.encode()}
        body = b"".join(
            f'--edge\r\nContent-Disposition: form-data; name="{part}"\r\n\r\n'.encode() + data + b"\r\n"
            for part, data in parts.items()
        )
        headers = {"Content-Type": "multipart/form-data; boundary=edge"}
        reply = self.daemon.request("PUT", f"/v1/functions/{name}", body + b"--edge--\r\n", headers)
        assert reply.status in {200, 201}, reply.body

    def call(self, name: str, number: int = 0) -> str:
        product = PRODUCTS[number % len(PRODUCTS)]
        return product.check(self.daemon.invoke(name, product.body))

    def view(self) -> dict[str, Any]:
        view: dict[str, Any] = self.daemon.request("GET", "/v1/accel").json()
        return view

    def function(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(one for one in self.view()["functions"] if one["name"] == name)
        return found

    @property
    def gpu(self) -> dict[str, Any]:
        gpu: dict[str, Any] = self.view()["gpus"][0]
        return gpu

    def broker_pid(self) -> int:
        """Once there is one."""
        self.until(lambda: bool(self.gpu["pid"]))
        return int(self.gpu["pid"])

    def until(self, holds: Callable[[], bool]) -> None:
        for _ in patience():
            if holds():
                return
        raise AssertionError(self.view())

    def on_gpu(self, name: str) -> None:
        """Call until the GPU answers, several times in a row."""
        row = 0
        for number in range(2000):
            row = row + 1 if self.call(name, number) == "gpu" else 0
            if row == 3:
                return
        raise AssertionError(self.view())


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One node for all tests, in whatever order."""
    rig = Rig(tmp_path_factory.mktemp("gpu"))
    try:
        yield rig
    finally:
        assert rig.daemon.stop() == 0


def test_a_function_is_promoted_and_top_shows_it(rig: Rig) -> None:
    rig.deploy("product", "cpu_preferred")
    assert rig.call("product") == "cpu"
    rig.on_gpu("product")
    seen = rig.function("product")
    assert seen["backend"] == "gpu"
    assert seen["switches"] >= 1
    assert seen["why"].startswith("to the GPU: ")
    assert seen["changed_at"]
    assert seen["kernel_calls"]["gpu"] >= 3
    assert rig.daemon.metric("edgeagent_accel_backend_calls_total") >= sum(seen["kernel_calls"].values())
    assert (rig.commands / "caches").read_text().startswith(f"{rig.daemon.state}/cache/")
    text = rig.daemon.request("GET", "/metrics").body.decode()
    assert re.search(r'edgeagent_accel_broker_state\{device="0",state="ready"\} 1', text)
    assert 'edgeagent_accel_mode{function="product",mode="cpu_preferred"} 1.0' in text

    shown = cli("top", "--once", node=rig.daemon.url)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"product +\d+ +[\d.]+ +cpu_preferred +gpu +to the GPU: ", shown.stdout.decode())
    assert "numpy 0" in shown.stdout.decode()
    told = json.loads(cli("top", "--json", node=rig.daemon.url).stdout)
    assert told["ok"]
    assert {one["name"]: one["backend"] for one in told["functions"]}["product"] == "gpu"
    assert told["gpus"][0]["state"] == "ready"
    assert told["load"]["active"] == 0


def test_sigkill_of_the_broker_under_load(rig: Rig) -> None:
    rig.deploy("killed", "gpu_preferred")
    rig.on_gpu("killed")
    calls, falls = rig.daemon.metric("edgeagent_accel_calls_total"), rig.gpu["falls"]
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(rig.call, "killed", number) for number in range(24)]
        os.kill(rig.broker_pid(), signal.SIGKILL)
        assert len([one.result() for one in answers]) == 24
    assert rig.daemon.metric("edgeagent_accel_calls_total") == calls + 24
    assert rig.gpu["falls"] == falls + 1
    rig.on_gpu("killed")


def test_the_broker_goes_with_its_node(rig: Rig) -> None:
    rig.deploy("goes", "gpu_preferred")
    rig.on_gpu("goes")
    pid = rig.broker_pid()
    rig.daemon.kill()
    for _ in patience():
        if not Path(f"/proc/{pid}").exists():
            break
    else:
        raise AssertionError("the broker lives on")
    rig.daemon.start()


def test_pinned_functions_are_obeyed(rig: Rig) -> None:
    rig.deploy("never", "cpu")
    rig.deploy("pinned", "gpu")
    rig.until(lambda: rig.gpu["state"] == "ready")  # the node starts it for who is pinned to it
    done = len(calls_done(rig.commands))
    assert rig.call("pinned") == "gpu"
    assert rig.call("never") == "cpu"
    command(rig.commands, "calls", "die")
    assert rig.call("pinned") == "cpu"  # what is under way is never lost
    reply = rig.daemon.invoke("pinned", PRODUCTS[0].body)
    assert (reply.status, reply.slug) == (503, "unavailable")
    assert "GPU 0 is" in reply.json()["detail"]
    assert reply.headers["retry-after"]
    rig.daemon.request("DELETE", "/v1/functions/pinned")
    assert calls_done(rig.commands)[done:] == ["pinned matmul"]


def test_whatever_the_gpu_does_each_call_is_answered_once_and_right(rig: Rig) -> None:
    rig.deploy("faulty", "gpu_preferred")
    falls, replays = rig.gpu["falls"], rig.daemon.metric("edgeagent_accel_replays_total")
    for word in ("memory", "half", "hang"):
        rig.on_gpu("faulty")
        before = rig.function("faulty")
        command(rig.commands, "calls", word)
        assert rig.call("faulty") == "cpu", word
        after = rig.function("faulty")
        assert after["replays"] == before["replays"] + 1, word
        assert sum(after["kernel_calls"].values()) == sum(before["kernel_calls"].values()) + 1
    assert rig.gpu["falls"] == falls + 2
    assert rig.daemon.metric("edgeagent_accel_replays_total") == replays + 3
    assert rig.daemon.metric("edgeagent_accel_calls_failed_total") == 0


def test_a_broker_that_stands_still_is_ended_and_nobody_waits_for_it(rig: Rig) -> None:
    rig.deploy("still", "gpu_preferred")
    rig.on_gpu("still")
    pid, falls = rig.broker_pid(), rig.gpu["falls"]
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(lambda number: rig.call("still", number), range(8)))) == 8
    assert rig.gpu["falls"] == falls + 1
    assert not Path(f"/proc/{pid}").exists()


def test_a_function_that_goes_while_it_is_called(rig: Rig) -> None:
    """What was taken on is answered, by code that is gone since; nothing of it stays."""
    rig.deploy("goes-away", "gpu_preferred")
    rig.on_gpu("goes-away")
    command(rig.commands, "calls", "slow0.3")
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(rig.call, "goes-away", number) for number in range(4)]
        rig.until(lambda: bool(rig.gpu["load"]))
        assert rig.daemon.request("DELETE", "/v1/functions/goes-away").status == 204
        assert len([one.result() for one in answers]) == 4
    assert "goes-away" not in {one["name"] for one in rig.view()["functions"]}


def test_a_node_that_is_interrupted_answers_what_runs_on_its_gpu(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.deploy("last", "gpu_preferred")
    rig.on_gpu("last")
    pid = rig.broker_pid()
    command(rig.commands, "calls", "slow0.3")
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(rig.call, "last", number) for number in range(2)]
        rig.until(lambda: rig.view()["load"]["active"] == 2)
        assert rig.daemon.stop(signal.SIGINT) == 0
        assert len([one.result() for one in answers]) == 2
    assert not Path(f"/proc/{pid}").exists()


def test_where_there_is_no_gpu_the_cpu_serves_and_a_pinned_function_says_so(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "accel.enabled=never")
    try:
        rig.deploy("product", "gpu_preferred")
        rig.deploy("pinned", "gpu")
        assert rig.call("product") == "cpu"
        reply = rig.daemon.invoke("pinned", PRODUCTS[0].body)
        assert (reply.status, reply.slug) == (503, "unavailable")
        view = rig.view()
        assert (view["gpus"], view["why_no_gpu"]) == ([], "accel.enabled = never")
        assert rig.daemon.log_text().count("kernels run on the CPU") == 1
        shown = cli("top", "--once", node=rig.daemon.url).stdout.decode()
        assert "no GPU: accel.enabled = never" in shown
    finally:
        assert rig.daemon.stop() == 0
