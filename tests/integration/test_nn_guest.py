"""Functions that run ONNX models through wasi-nn in a whole node, on both engines."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import numpy as np
import pytest

from edgeagent.accel.nn_layout import NnErrno
from edgeagent.model.errors import DeadlineExceeded
from edgeagent.model.function import FunctionSection, Limits, Manifest
from edgeagent.node import nn_guest as served
from edgeagent.node.config import load_config
from edgeagent.node.node import Node
from edgeagent.node.result import Result
from tests.contract.nn_calls import SQUARES, nn_guest, nn_input
from tests.integration.test_state_guest import ENGINES

needs_runtime = pytest.mark.skipif(not served.has_runtime(), reason="no onnxruntime")
ROW = np.array([1, 2, 3], "float32")


def _settings(folder: Path, engine: str) -> dict[str, str]:
    (folder / "models").mkdir(exist_ok=True)
    (folder / "models/squares.onnx").write_bytes(SQUARES)
    return {
        "node.state_dir": str(folder / "state"),
        "node.cache_dir": str(folder / "cache"),
        "nn.models": str(folder / "models"),
        "runtime.engine": engine,
    }


def _told(result: Result) -> tuple[int, int, list[float]]:
    output = bytes(result.output)
    return (
        int.from_bytes(output[:4], "little"),
        int.from_bytes(output[4:8], "little"),
        np.frombuffer(output[12:], "<f4").tolist(),
    )


@needs_runtime
@pytest.mark.parametrize("engine", ENGINES)
def test_models_run_in_a_node(tmp_path: Path, engine: str) -> None:
    async def main() -> None:
        node = Node(load_config(None, {"HOME": str(tmp_path)}, _settings(tmp_path, engine)))
        await node.start()
        try:
            manifest = Manifest(function=FunctionSection(name="model"), limits=Limits(wall_ms=20_000))
            await node.functions.deploy("model", nn_guest(early=True), manifest)
            rows = [ROW + n for n in range(6)]
            results = await asyncio.gather(*(node.invoker.invoke("model", nn_input(row)) for row in rows))
            assert [_told(one) for one in results] == [(0, 0, (row * row + row).tolist()) for row in rows]
            assert _told(await node.invoker.invoke("model", nn_input(ROW, name="squares")))[2] == [2, 6, 12]
            for body, errno, call in (
                (nn_input(ROW, name="none"), NnErrno.NOT_FOUND, 1),
                (nn_input(ROW, b"no model"), NnErrno.INVALID_ENCODING, 1),
                (nn_input(ROW, encoding=4), NnErrno.INVALID_ENCODING, 1),
                (nn_input(np.ones(4, "float32")), NnErrno.INVALID_ARGUMENT, 4),
            ):
                assert _told(await node.invoker.invoke("model", body))[:2] == (errno, call)
            assert node.meters.counters["nn_runs"] == 7
            # A model that does not come to an end is ended with its call; the next one runs.
            models = node.mailboxes.nn
            assert isinstance(models, served.NnGuest)
            process = models._process._process
            assert process is not None
            process.send_signal(signal.SIGSTOP)
            with pytest.raises(DeadlineExceeded):
                await node.invoker.invoke("model", nn_input(ROW), wall_ms=300)
            assert _told(await node.invoker.invoke("model", nn_input(ROW)))[2] == [2, 6, 12]
        finally:
            await node.close()

    asyncio.run(main())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_node_without_onnxruntime_says_so(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "has_runtime", lambda: False)

    async def main() -> None:
        node = Node(load_config(None, {"HOME": str(tmp_path)}, _settings(tmp_path, engine)))
        await node.start()
        try:
            await node.functions.deploy("model", nn_guest())
            told = _told(await node.invoker.invoke("model", nn_input(ROW)))
            assert told[:2] == (NnErrno.UNSUPPORTED_OPERATION, 1)
        finally:
            await node.close()

    asyncio.run(main())
