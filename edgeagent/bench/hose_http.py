"""The baselines ``http-json`` and ``http-raw``: the producer's output is POSTed to the node of the consumer.

The producer runs here, on the engine that may only copy; the consumer in a daemon of ours (``hose_daemon``), a process
of its own, over a kept connection on loopback: one hop, as between two nodes, and nobody in between.

- ``http-raw``: the bytes are the body. The hand-over: from the producer's return to the consumer's entry.
- ``http-json``: base64 in a JSON document, made and read by the guests (wasm/json_base64.h). The hand-over: from when
  the bytes lie in the encoding guest's memory to when they lie decoded in the other guest's.

What comes before and after is no part of it: encoding is a guest that gets the bytes as its input, and the times are
those of the guests' runs, so that the reply is not waited for.
"""

from __future__ import annotations

import http.client
import mmap
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from edgeagent.bench.daemon import daemon_command, daemon_env, deploy
from edgeagent.bench.harness import Bench, Sample, Sampler
from edgeagent.bench.hose_cases import TOO_LONG, is_thorough
from edgeagent.bench.hose_cost import Cost
from edgeagent.bench.hose_daemon import STAMPS
from edgeagent.bench.hose_guests import consumer, expected_sum, request
from edgeagent.bench.hose_rig import MIB, Side, good, load_guest, size_name
from edgeagent.bench.machine import available_memory_bytes
from edgeagent.bench.processes import ServerFailed, free_port, server
from edgeagent.runtime.port import Outcome

__all__ = ["HttpHop", "json_guest", "linked", "with_http"]

# Beyond, a run would not end within 5 minutes.
JSON_BYTES_MAX = 16 * MIB
RAW_BYTES_MAX = 64 * MIB
_HELD = {"http-json": 10, "http-raw": 7}  # payloads in memory at once, in both processes
_BODY_BYTES_MAX = 1 << 30
_SENDER_BYTES = 2 << 30  # 512 MiB and the document that is made of them
_MANIFEST = """[function]
name = "{}"
[limits]
memory_bytes = 1073741824
wall_ms = 120000
"""
_WASM = Path(__file__).parent / "wasm"


def json_guest(name: str) -> bytes:
    """``produce``, ``encode`` or ``consume``; see the sources beside them."""
    return (_WASM / f"json_{name}.wasm").read_bytes()


class HttpHop:
    """Both functions of each baseline, and the connection between them; used from one thread."""

    def __init__(self, stack: ExitStack, side: Side) -> None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeagent-bench-")))
        stamps = folder / "stamps"
        stamps.write_bytes(bytes(STAMPS.size))
        port = free_port()
        argv = daemon_command("edgeagent.bench.hose_daemon", str(stamps), "run", "--exit-with-parent")
        env = {
            **daemon_env(folder, port),
            "EDGEAGENT_RUNTIME_INLINE": "false",
            "EDGEAGENT_HTTP_BODY_BYTES_MAX": str(_BODY_BYTES_MAX),
            "EDGEAGENT_HTTP_KEEPALIVE_MS": "3600000",
        }
        self.pid = stack.enter_context(server(argv, port=port, folder=folder, env=env, check=False)).pid
        with stamps.open("rb") as file:
            self._stamps = stack.enter_context(
                closing(mmap.mmap(file.fileno(), STAMPS.size, access=mmap.ACCESS_READ))
            )
        self._link = stack.enter_context(closing(http.client.HTTPConnection("127.0.0.1", port, timeout=300)))
        deploy(port, "raw", consumer(), _MANIFEST.format("raw"))
        deploy(port, "json", json_guest("consume"), _MANIFEST.format("json"))
        self._side = side
        self._produce, self._encode = (
            load_guest(side.engine, json_guest(name), folder, f"json-{name}", memory_bytes=_SENDER_BYTES)
            for name in ("produce", "encode")
        )

    def raw(self, count: int) -> None:
        """A whole cycle."""
        output = good(self._side.plain_produce.call(request(count, lent=False))).output
        self._sent_raw(output, count)

    def json(self, count: int) -> None:
        """A whole cycle."""
        document = good(self._produce.call(request(count, lent=False))).output
        self._sent_json(document, count, expected_sum(count))

    def raw_handover(self, count: int) -> Sample:
        """In us."""
        cost = Cost(self.pid)
        made = good(self._side.plain_produce.call(request(count, lent=False)))
        entered_ns, _ = self._sent_raw(made.output, count)
        _, more = cost.spent()
        return (entered_ns - _times_ns(made)[1]) / 1000, more

    def json_handover(self, count: int) -> Sample:
        """In us; the cost is that of the hand-over and the reply alone."""
        payload = good(self._side.plain_produce.call(request(count, lent=False))).output
        cost = Cost(self.pid)
        made = good(self._encode.call(payload))
        _, decoded_ns = self._sent_json(made.output, count, bytes(payload[-8:]))
        _, more = cost.spent()
        encoding_ns, encoded_ns = _times_ns(made)
        return (decoded_ns - encoding_ns) / 1000, {"encode_us": (encoded_ns - encoding_ns) / 1000, **more}

    def _sent_raw(self, body: bytes | memoryview, count: int) -> tuple[int, int]:
        if self._post("/functions/raw", body) != expected_sum(count):
            raise AssertionError("the consumer read something else than was produced")
        return self._times_there_ns()

    def _sent_json(self, body: bytes | memoryview, count: int, proof: bytes) -> tuple[int, int]:
        if self._post("/functions/json", body)[:16] != struct.pack("<Q", count) + proof:
            raise AssertionError("the consumer read something else than was produced")
        return self._times_there_ns()

    def _times_there_ns(self) -> tuple[int, int]:
        entered_ns, returned_ns = STAMPS.unpack(self._stamps[:])
        return entered_ns, returned_ns

    def _post(self, path: str, body: bytes | memoryview) -> bytes:
        return self._ask("POST", path, body, "application/octet-stream")

    def _ask(self, method: str, path: str, body: bytes | memoryview, content_type: str) -> bytes:
        self._link.request(method, path, body, {"Content-Type": content_type})
        reply = self._link.getresponse()
        answer = reply.read()
        if reply.status not in (200, 201):
            raise ServerFailed(f"{method} {path}: status {reply.status}: {answer[:300]!r}")
        return answer


def _times_ns(outcome: Outcome) -> tuple[int, int]:
    of_the_engine: Any = outcome
    entered_ns, returned_ns = of_the_engine.times_ns
    return entered_ns, returned_ns


@contextmanager
def linked(side: Side) -> Iterator[HttpHop]:
    """Raises ServerFailed when the daemon does not start."""
    with ExitStack() as stack:
        yield HttpHop(stack, side)


@contextmanager
def _linked_if_it_starts(bench: Bench, side: Side) -> Iterator[HttpHop | None]:
    """None, once for all cases, and both baselines named under ``skipped``, when the daemon does not start."""
    with ExitStack() as stack:
        hop = None
        try:
            hop = stack.enter_context(linked(side))
        except (ServerFailed, OSError) as error:
            for name in _HELD:
                bench.skip(name, f"its daemon does not start: {error}")
        yield hop


def with_http(
    bench: Bench,
    side: Side,
    count: int,
    samplers: dict[str, Sampler],
    sampler: Callable[[HttpHop, str], Sampler],
) -> dict[str, Sampler]:
    """``samplers`` and those of both baselines, where time and memory allow; else they are listed under ``skipped``."""
    for name, bytes_max in (("http-json", JSON_BYTES_MAX), ("http-raw", RAW_BYTES_MAX)):
        needed, quarter = _HELD[name] * count, available_memory_bytes() // 4
        if count > bytes_max and not is_thorough(bench):
            bench.skip(f"{name} beyond {size_name(bytes_max)}", TOO_LONG)
        elif needed > quarter:
            bench.skip(
                f"{name} from {size_name(count)}",
                f"needs {needed >> 20} MiB, more than a quarter of the available memory ({quarter >> 20} MiB)",
            )
        else:
            hop = bench.share("hose-http", lambda: _linked_if_it_starts(bench, side))
            if hop is not None:
                samplers[name] = sampler(hop, name)
    return samplers
