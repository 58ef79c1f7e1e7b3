"""``auto-WORKLOAD``: ms of a call whose mode is left to the node, beside the same function pinned to CPU and to GPU.

One daemon with its default configuration, each workload deployed three times with manifests that differ in the mode
alone. Rounds are interleaved like everywhere; before them the function that chooses has served so many requests that
what it learns from lies behind it, as for a function that was deployed yesterday. Where the node has no GPU, the
baseline ``gpu`` is listed under ``skipped`` with the node's own reason, and what remains is what choosing costs.
"""

from __future__ import annotations

import http.client
import json
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeagent.bench.daemon import daemon, deploy
from edgeagent.bench.harness import Bench, Case, Rounds, Sample, Sampler
from edgeagent.bench.processes import ServerFailed

__all__ = ["WORKLOADS", "Workload", "auto_cases"]

LEARNING = 60
GPU_WAIT_S = 30.0
_WASM = Path(__file__).parent / "wasm"


@dataclass(frozen=True)
class Workload:
    """``guest``: a file in wasm/; ``numbers``: its input, u32 each; ``seeded``: a fresh seed follows them each call."""

    name: str
    guest: str
    numbers: tuple[int, ...]
    seeded: bool = True

    def body(self, seed: int) -> bytes:
        given = (*self.numbers, seed) if self.seeded else self.numbers
        return struct.pack(f"<{len(given)}I", *given)


# The original's workloads (arXiv 2511.13728, section 5) as guests of ours: products of growing matrices, a picture
# classifier, a judge of sentences, and work that a GPU only hinders.
WORKLOADS = (
    *(Workload(f"matmul-{n}", "accel_matmul", (n,)) for n in (64, 256, 1024, 2048)),
    Workload("image-1", "accel_image", (1,)),
    Workload("image-16", "accel_image", (16,)),
    Workload("text-1", "accel_text", (1,)),
    Workload("text-256", "accel_text", (256,)),
    Workload("idle", "accel_idle", (5_000_000,), seeded=False),
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
        process = stack.enter_context(daemon(folder, "/livez"))
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
        node = bench.share("accel-node", _node)
        samplers = {}
        for contestant, mode in (("ours", "auto"), ("cpu", "cpu"), ("gpu", "gpu")):
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
