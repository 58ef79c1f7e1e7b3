"""Functions that call kernels in a whole node, on both engines."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from edgeagent.accel.descriptors import Description, Operand, contiguous
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.guest_layout import Backend, Code
from edgeagent.accel.registry import shipped
from edgeagent.model.errors import GuestTrap
from edgeagent.node.config import load_config
from edgeagent.node.node import Node
from tests.contract.accel_calls import DATA, accel_guest, program
from tests.guest_frames import pack_call, unpack_query
from tests.integration.test_state_guest import ENGINES

WATER = Path(__file__).resolve().parents[2] / "examples/accel/water.wasm"


def play(folder: Path, engine: str, scenario: Callable[[Node], Awaitable[None]]) -> None:
    async def main() -> None:
        places = {"node.state_dir": str(folder / "state"), "node.cache_dir": str(folder / "cache")}
        config = load_config(None, {"HOME": str(folder)}, {**places, "runtime.engine": engine})
        node = Node(config)
        await node.start()
        try:
            await scenario(node)
        finally:
            await node.close()

    asyncio.run(main())


@pytest.mark.parametrize("engine", ENGINES)
def test_water_is_found(tmp_path: Path, engine: str) -> None:
    rng = np.random.default_rng(7)
    height, width = 120, 200
    green = rng.integers(900, 1100, (height, width)).astype("uint16")
    infrared = rng.integers(1800, 2200, (height, width)).astype("uint16")
    for rows, columns in (
        (slice(10, 30), slice(20, 60)),
        (slice(30, 40), slice(60, 70)),
        (slice(80, 81), slice(0, 200)),
    ):
        infrared[rows, columns] = 200
    body = struct.pack("<II", width, height) + green.tobytes() + infrared.tobytes()

    async def scenario(node: Node) -> None:
        await node.functions.deploy("water", WATER.read_bytes())
        results = await asyncio.gather(*(node.invoker.invoke("water", body) for _ in range(8)))
        # the first two touch by a corner
        assert {bytes(result.output) for result in results} == {b"1100 pixels of water in 2 pieces\n"}
        assert node.meters.counters["accel_calls"] == 32
        (shown,) = node.accel.view()["functions"]
        assert shown["kernel_calls"] == {"cpu": 32, "gpu": 0}
        told_j = sum(result.energy_uj for result in results) / 1e6
        assert shown["energy_j"] == pytest.approx(told_j, abs=16e-6)  # each is cut to whole microjoules
        assert told_j > 0.0
        with pytest.raises(GuestTrap):
            await node.invoker.invoke("water", body[:-1])

    play(tmp_path, engine, scenario)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_product_of_matrices_in_the_guests_memory(tmp_path: Path, engine: str) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.random((40, 30)).astype("float32"), rng.random((30, 50)).astype("float32")
    name, at = b"matmul", DATA + 1024
    operands = [contiguous(at, Dtype.F32, a.shape), contiguous(at + a.nbytes, Dtype.F32, b.shape)]
    out = contiguous(operands[1].range[1], Dtype.F32, (40, 50))
    described = pack_call(Description(tuple(operands), (out,)))
    data = (name + described).ljust(at - DATA, b"\0") + a.tobytes() + b.tobytes()
    end = out.range[1] - DATA

    async def scenario(node: Node) -> None:
        await node.functions.deploy("calls", accel_guest())
        body = program("call", DATA, len(name), DATA + len(name), len(described), data=data, show=end)
        output = bytes((await node.invoker.invoke("calls", body)).output)
        assert struct.unpack_from("<i", output)[0] == 0
        got = np.frombuffer(output[24 + out.offset - DATA :], "float32").reshape(40, 50)
        np.testing.assert_allclose(got, a @ b, rtol=1e-5)

        unknown = program("call", DATA, 3, DATA, 0, data=b"nope")
        output = bytes((await node.invoker.invoke("calls", unknown)).output)
        assert struct.unpack_from("<i", output)[0] == Code.NONE

        output = bytes((await node.invoker.invoke("calls", program("query", DATA, 4096, show=4096))).output)
        size = struct.unpack_from("<i", output)[0]
        assert unpack_query(output[24 : 24 + size]) == (Backend.CPU, [kernel.name for kernel in shipped()])

    play(tmp_path, engine, scenario)


@pytest.mark.parametrize("engine", ENGINES)
def test_long_kernels_of_one_function_keep_no_other_waiting(tmp_path: Path, engine: str) -> None:
    """A kernel is not interrupted, and a flood of long ones comes from one function."""
    name, at = b"prod", DATA + 1024

    def body(elements: int) -> bytes:
        numbers, out = Operand(at, Dtype.F64, (elements,), (0,)), contiguous(at + 8, Dtype.F64, ())
        described = pack_call(Description((numbers,), (out,)))
        return program("call", DATA, len(name), DATA + len(name), len(described), data=name + described)

    async def scenario(node: Node) -> None:
        for function in ("flood", "quiet"):
            await node.functions.deploy(function, accel_guest())
        await node.invoker.invoke("quiet", body(1))
        flood = [asyncio.create_task(node.invoker.invoke("flood", body(300_000_000))) for _ in range(4)]
        threads = node.accel.guest._threads
        async with asyncio.timeout(60):
            while threads.long_running < min(4, os.cpu_count() or 1):  # noqa: ASYNC110 - on threads
                await asyncio.sleep(0.001)
        await node.invoker.invoke("quiet", body(1))
        assert not any(one.done() for one in flood)
        assert {bytes((await one).output)[:4] for one in flood} == {bytes(4)}

    play(tmp_path, engine, scenario)
