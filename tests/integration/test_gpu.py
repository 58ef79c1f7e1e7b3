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
import wasmtime

from edgeagent.accel.descriptors import Description, contiguous
from edgeagent.accel.dtypes import Dtype
from tests.conftest import engine_names
from tests.contract.accel_calls import DATA, accel_guest, program
from tests.contract.hose_calls import HoseProgram, Ref, hose_guest
from tests.contract.nn_calls import nn_guest
from tests.guest_frames import pack_call
from tests.guests import wasm
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

    def deploy(self, name: str, mode: str, wasm: bytes = b"", more: str = "") -> None:
        manifest = f'[function]\nname = "{name}"\n[accel]\nmode = "{mode}"\n{more}'
        parts = {"wasm": wasm or accel_guest(pages=50), "manifest": manifest.encode()}
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

    def why(self, name: str) -> str:
        return str(self.function(name)["why"])

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
    (learned,) = [one for one in seen["kernels"]["matmul"] if one["calls"]]
    assert learned["backend"] == "gpu"
    assert learned["gpu_ms"] < learned["cpu_ms"]
    assert seen["gpu_seconds"] > 0.0
    assert seen["energy_j"] > 0.0
    assert seen["cost_usd"] > 0.0
    assert rig.view()["energy"]["usd_per_kwh"] > 0.0
    assert rig.daemon.metric("edgeagent_accel_backend_calls_total") >= sum(seen["kernel_calls"].values())
    assert (rig.commands / "caches").read_text().startswith(f"{rig.daemon.state}/cache/")
    text = rig.daemon.request("GET", "/metrics").body.decode()
    assert re.search(r'edgeagent_accel_broker_state\{device="0",state="ready"\} 1', text)
    assert 'edgeagent_accel_mode{function="product",mode="cpu_preferred"} 1.0' in text
    assert re.search(
        r'edgeagent_accel_last_change\{backend="gpu",function="product",reason="\w[^"]*"\} 1', text
    )
    for name in ("accel_gpu_seconds", "energy_joules", "cost_usd"):
        (value,) = re.findall(rf'edgeagent_{name}_total\{{function="product"\}} (\S+)', text)
        assert float(value) > 0.0

    shown = cli("top", "--once", node=rig.daemon.url)
    assert shown.returncode == 0, shown.stderr
    assert re.search(
        r"product +\d+ +[\d.]+ +cpu_preferred +gpu +[\d.e+-]+ +[\d.e+-]+ +[\d.e+-]+ +to the GPU: ",
        shown.stdout.decode(),
    )
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
    # It may be back already; what was learned of its speed is no reason for where the calls are now.
    assert re.match(
        r"to the [CG]PU: the GPU (was lost|failed|may serve again|answers again)", rig.why("killed")
    )
    text = rig.daemon.request("GET", "/metrics").body.decode()
    assert re.search(
        r'accel_last_change\{backend="[cg]pu",function="killed",reason="the GPU [^"]+"\} 1', text
    )
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


def test_what_was_learned_outlives_a_redeploy_and_a_restart(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    try:
        rig.deploy("learns", "cpu_preferred")
        rig.on_gpu("learns")
        learned = rig.function("learns")

        def same(seen: dict[str, Any]) -> None:
            for key in ("backend", "why", "changed_at", "kernel_calls", "switches"):
                assert seen[key] == learned[key], key

        rig.deploy("learns", "cpu_preferred")
        same(rig.function("learns"))
        assert rig.call("learns") == "gpu"
        learned = rig.function("learns")
        assert rig.daemon.stop() == 0

        rig.daemon.start()
        told = json.loads(cli("top", "--once", "--json", node=rig.daemon.url).stdout)
        same(next(one for one in told["functions"] if one["name"] == "learns"))
        assert told["gpus"][0]["state"] == "off"
        rig.call("learns")  # it starts the GPU
        rig.until(lambda: rig.gpu["state"] == "ready")
        assert [rig.call("learns", number) for number in range(3)] == ["gpu"] * 3
        assert rig.function("learns")["changed_at"] == learned["changed_at"]
        assert rig.daemon.stop() == 0

        (rig.daemon.state / "accel.kept").write_bytes(b"edgeagent accel 1\nrubbish")
        rig.daemon.start()
        assert rig.function("learns")["kernel_calls"] == {"cpu": 0, "gpu": 0}
        assert rig.call("learns") == "cpu"
        assert rig.daemon.log_text().count("CPU or GPU is learned anew") == 1
    finally:
        assert rig.daemon.stop() == 0


def test_pinned_functions_are_obeyed(rig: Rig) -> None:
    rig.deploy("never", "cpu")
    rig.deploy("pinned", "gpu")
    rig.until(lambda: rig.gpu["state"] == "ready")  # the node starts it for who is pinned to it
    done = len(calls_done(rig.commands))
    assert rig.call("pinned") == "gpu"
    assert rig.call("never") == "cpu"
    assert rig.function("never")["kernel_calls"] == {"cpu": 1, "gpu": 0}
    never = 'edgeagent_accel_backend_calls_total{backend="cpu",function="never"} 1.0'
    assert never in rig.daemon.request("GET", "/metrics").body.decode()
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


def test_a_gpu_that_hangs_costs_no_answer_however_long_it_may_take(tmp_path: Path) -> None:
    """Functions have less time than a kernel may take: their calls are the CPU's before that time is over."""
    rig = Rig(tmp_path, "accel.deadline_ms=600000")
    try:
        rig.deploy("hangs", "gpu", more="[limits]\nwall_ms = 4000\n")
        rig.deploy("beside", "gpu_preferred")
        rig.deploy("pinned", "gpu")
        rig.until(lambda: rig.gpu["state"] == "ready")
        assert rig.call("hangs") == "gpu"
        command(rig.commands, "calls", "hang")
        with ThreadPoolExecutor(3) as pool:
            answers = [pool.submit(rig.call, "hangs", number) for number in range(3)]
            assert [one.result() for one in answers] == ["cpu"] * 3
        assert rig.call("beside") == "cpu"  # at once
        reply = rig.daemon.invoke("pinned", PRODUCTS[0].body)
        assert (reply.status, reply.slug) == (503, "unavailable")
        assert "may have hung in matmul of hangs" in reply.json()["detail"]
        assert rig.function("hangs")["replays"] == 3
        assert rig.gpu["falls"] == 0
        os.kill(rig.broker_pid(), signal.SIGKILL)
        rig.until(lambda: rig.gpu["state"] == "ready" and rig.gpu["starts"] == 2)
        assert rig.call("hangs") == "gpu"
    finally:
        assert rig.daemon.stop() == 0


# Its input: the bytes of a description of a sum, that at 8, and numbers at 4096, whose sum it answers with.
_SUMS = """(module
  (import "edge_accel" "call" (func $call (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 8) "sum")
  (func (export "edge_alloc") (param i32) (result i32) (i32.const 4096))
  (func (export "edge_alloc_aligned") (param $len i32) (param $align i32) (result i32)
    (drop (memory.grow (i32.shr_u (i32.add (local.get $len) (i32.shl (local.get $align) (i32.const 1)))
                                  (i32.const 16))))
    (i32.and (i32.add (i32.const 65536) (i32.sub (local.get $align) (i32.const 1)))
             (i32.sub (i32.const 0) (local.get $align))))
  (func (export "edge_handle") (param $p i32) (param $len i32) (result i64)
    (memory.copy (i32.const 1024) (i32.add (local.get $p) (i32.const 8)) (i32.load (local.get $p)))
    (i64.store (i32.const 1040) (i64.extend_i32_u (i32.add (local.get $p) (i32.const 4096))))
    (i32.store (i32.const 64) (call $call (i32.const 8) (i32.const 3) (i32.const 1024) (i32.load (local.get $p))))
    (i64.const 0x4000000010)))"""


@pytest.mark.skipif("native" not in engine_names(), reason="the extension is not built")
def test_what_came_by_a_hose_reaches_the_gpu_without_a_copy(rig: Rig) -> None:
    numbers = np.arange(1 << 19, dtype="int64")
    operands = contiguous(0, Dtype.I64, numbers.shape), contiguous(72, Dtype.I64, (1,))
    described = pack_call(Description(operands[:1], operands[1:], (0.0,)))
    page = (struct.pack("<II", len(described), 0) + described).ljust(4096, b"\0")
    given = page + numbers.tobytes()
    producer = HoseProgram()
    at, source = producer.call("loan", len(given)), producer.call("input")
    producer.call("copy", at, Ref(source.call, 4 + 28 * 4), len(given))
    producer.call("reply", at, len(given))
    rig.deploy("lends", "cpu", hose_guest())
    rig.deploy("sums", "gpu", bytes(wasmtime.wat2wasm(_SUMS)))
    rig.deploy("never-sums", "cpu", bytes(wasmtime.wat2wasm(_SUMS)))
    rig.until(lambda: rig.gpu["state"] == "ready")
    copied = rig.daemon.metric("edgeagent_accel_copied_bytes_total")
    for _ in range(2):
        reply = rig.daemon.invoke("lends", producer.encoded() + given, Edgeagent_Then="sums")
        assert reply.status == 200, reply.body
        assert struct.unpack("<iiq", reply.body) == (0, 0, int(numbers.sum()))
        assert reply.headers["edgeagent-hose"].startswith("share")
        assert reply.headers["edgeagent-backend"] == "gpu"
    assert rig.daemon.metric("edgeagent_accel_mapped_bytes_total") == 2 * numbers.nbytes
    both = rig.daemon.invoke("lends", producer.encoded() + given, Edgeagent_Then="never-sums+sums")
    assert (both.status, both.headers["edgeagent-backend"]) == (200, "gpu"), both.body
    assert rig.daemon.metric("edgeagent_accel_copied_bytes_total") == copied
    assert (rig.commands / "mapped").read_text().split() == [str(numbers.nbytes)] * 3
    assert len((rig.commands / "attached").read_text().split()) <= 2
    rig.daemon.request("DELETE", "/v1/functions/sums")


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
        rig.deploy("plain", "gpu", wasm("echo"))
        rig.deploy("models", "gpu", nn_guest())
        for name in ("pinned", "plain", "models"):
            reply = rig.daemon.invoke(name, PRODUCTS[0].body)
            assert (reply.status, reply.slug) == (503, "unavailable"), name
            assert reply.headers["retry-after"] == "60"
        rig.deploy("first", "cpu", wasm("echo"))
        assert rig.daemon.invoke("first", b"x", Edgeagent_Then="plain").status == 503
        view = rig.view()
        assert (view["gpus"], view["why_no_gpu"]) == ([], "accel.enabled = never")
        assert rig.daemon.log_text().count("kernels run on the CPU") == 1
        shown = cli("top", "--once", node=rig.daemon.url).stdout.decode()
        assert "no GPU: accel.enabled = never" in shown
    finally:
        assert rig.daemon.stop() == 0
