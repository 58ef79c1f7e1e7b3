"""``auto-WORKLOAD``: ms of a call whose mode is left to the node, beside the same function pinned to CPU and to GPU.

One daemon with its default configuration, each workload deployed three times with manifests that differ in the mode
alone. Rounds are interleaved like everywhere; before them the function that chooses has served so many requests that
what it learns from lies behind it, as for a function that was deployed yesterday. Where the node has no GPU, the
baseline ``gpu`` is listed under ``skipped`` with the node's own reason, and what remains is what choosing costs. An
ONNX model through wasi-nn runs on the CPU in any mode: for it that is all there is to measure.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeagent.bench.accel_picture import picture_model
from edgeagent.bench.daemon import daemon, deploy
from edgeagent.bench.harness import Bench, Case, CaseSkipped, Rounds, Sample, Sampler
from edgeagent.bench.processes import ServerFailed

__all__ = ["WORKLOADS", "Workload", "auto_cases"]

LEARNING = 60
GPU_WAIT_S = 30.0
_WASM = Path(__file__).parent / "wasm"


@dataclass(frozen=True)
class Workload:
    """``guest``: a file in wasm/; ``numbers``: its input, u32 each; ``seeded``: a fresh seed follows them each call;
    ``nn``: it runs an ONNX model through wasi-nn.
    """

    name: str
    guest: str
    numbers: tuple[int, ...]
    seeded: bool = True
    nn: bool = False

    def body(self, seed: int) -> bytes:
        given = (*self.numbers, seed) if self.seeded else self.numbers
        return struct.pack(f"<{len(given)}I", *given)


# The original's workloads (arXiv 2511.13728) as guests of ours: products of growing matrices, a picture classifier (by
# kernels, and as an ONNX model), a judge of sentences, and a wait of so many ms, which no device makes shorter.
WORKLOADS = (
    *(Workload(f"matmul-{n}", "accel_matmul", (n,)) for n in (64, 256, 1024, 2048)),
    Workload("image-1", "accel_image", (1,)),
    Workload("image-16", "accel_image", (16,)),
    Workload("onnx-1", "accel_onnx", (1,), nn=True),
    Workload("onnx-16", "accel_onnx", (16,), nn=True),
    Workload("text-1", "accel_text", (1,)),
    Workload("text-256", "accel_text", (256,)),
    Workload("idle", "accel_idle", (50,), seeded=False),
)


class _Node:
    """The daemon, over one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[bytes, dict[str, str]]:
        """Raises ServerFailed for all but 200."""
        self._connection.request(method, path, body)
        reply = self._connection.getresponse()
        data = reply.read()
        if reply.status != 200:
            raise ServerFailed(f"{method} {path}: status {reply.status}: {data[:300]!r}")
        return data, {name.lower(): value for name, value in reply.getheaders()}

    def deploy(self, name: str, guest: str, mode: str) -> None:
        manifest = f'[function]\nname = "{name}"\n[limits]\nwall_ms = 60000\n[accel]\nmode = "{mode}"\n'
        deploy(self._connection.port, name, (_WASM / f"{guest}.wasm").read_bytes(), manifest)

    def no_gpu(self, name: str, body: bytes) -> str:
        """Why ``name``, which is pinned to the GPU, is not served; empty once it is. A start is waited for."""
        until = time.monotonic() + GPU_WAIT_S
        while True:
            told: dict[str, Any] = json.loads(self.ask("GET", "/v1/accel")[0])["gpu"]
            if told["state"] == "absent" or time.monotonic() > until:
                return str(told["why"] or told["state"])
            try:
                self.ask("POST", f"/functions/{name}", body)  # who asks for the GPU makes it start
            except ServerFailed:
                time.sleep(0.2)
            else:
                return ""

    def close(self) -> None:
        self._connection.close()


@contextmanager
def _node() -> Iterator[_Node]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeagent-bench-")))
        models = folder / "models"
        models.mkdir()
        (models / "picture.onnx").write_bytes(picture_model())
        process = stack.enter_context(daemon(folder, "/livez", {"EDGEAGENT_NN_MODELS": str(models)}))
        node = _Node(process.port)
        stack.callback(node.close)
        yield node


def _sampler(node: _Node, name: str, workload: Workload) -> Sampler:
    seed = iter(range(1, 1 << 31))

    def sample() -> Sample:
        body = workload.body(next(seed))
        begun = time.perf_counter()
        _, headers = node.ask("POST", f"/functions/{name}", body)
        return (time.perf_counter() - begun) * 1e3, {"backend": headers["edgeagent-backend"]}

    return sample


def _open(workload: Workload) -> Callable[[Bench], AbstractContextManager[dict[str, Sampler]]]:
    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        if workload.nn and importlib.util.find_spec("onnxruntime") is None:
            raise CaseSkipped("no onnxruntime (pip install 'edgeagent[nn]')")
        node = bench.share("accel-node", _node)
        samplers = {}
        for contestant, mode in (("ours", "auto"), ("cpu", "cpu"), ("gpu", "gpu")):
            if mode == "gpu" and workload.nn:
                bench.skip(f"gpu in auto-{workload.name}", "models of wasi-nn run on the CPU")
                continue
            name = f"{workload.name}-{mode}"
            node.deploy(name, workload.guest, mode)
            if mode == "gpu" and (why := node.no_gpu(name, workload.body(0))):
                bench.skip("gpu", why)
                continue
            samplers[contestant] = _sampler(node, name, workload)
        for _ in range(LEARNING):
            samplers["ours"]()
        yield samplers

    return opened


def _fields(rounds: Rounds, _bench: Bench) -> dict[str, Any]:
    served = [more["backend"] for _, more in rounds["ours"]]
    return {"gpu_share_pct": round(100.0 * served.count("gpu") / len(served), 1)}


def auto_cases() -> list[Case]:
    return [
        Case(
            name=f"auto-{workload.name}",
            unit="ms",
            better="lower",
            open=_open(workload),
            params={"guest": workload.guest, "input_u32": list(workload.numbers), "learning": LEARNING},
            rounds=31,
            rounds_full=101,
            memory_bytes=512 << 20,
            group="accel-node",
            fields=_fields,
        )
        for workload in WORKLOADS
    ]
