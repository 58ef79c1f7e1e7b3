"""``http-raw`` and ``http-json``: the baselines that send a function's output to the next one over HTTP.

Both functions run in this process, on the engine that only copies, so that one clock sees both ends; between them is
an aiohttp server on the loopback and a kept connection. ``http-json`` makes a JSON document with base64 of the bytes in
the producing guest, and reads and decodes it in the consuming one.
"""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from edgeagent.bench.harness import Sample
from edgeagent.bench.hose_guests import request
from edgeagent.bench.hose_rig import MIB, Rig, Side, checked, good
from edgeagent.runtime.port import Function, Outcome

__all__ = ["JSON_BYTES_MAX", "HttpHop", "opened_hop"]

# Above, the document and what is decoded of it do not fit the guests' gibibyte.
JSON_BYTES_MAX = 256 * MIB


class HttpHop:
    """A server in a thread that runs whatever function is asked for next, and a client for it."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._consumer: Function = side.plain_consume
        self._outcome: Outcome | None = None
        self._loop = asyncio.new_event_loop()
        self._port = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="bench-http", daemon=True)
        self._thread.start()
        self._ready.wait()
        self._client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=600)

    def close(self) -> None:
        self._client.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def raw(self, count: int) -> Outcome:
        """Produce, POST the bytes, consume."""
        return self._post(
            good(self._side.plain_produce.call(request(count, lent=False))), self._side.plain_consume, count
        )

    def json(self, count: int) -> Outcome:
        """Produce, encode, POST the document, decode, consume."""
        return self._post(
            good(self._side.json_produce.call(request(count, lent=False))), self._side.json_consume, count
        )

    def raw_handover(self, count: int) -> Sample:
        """From the producer's return to the consumer's entry, in us."""
        made = good(self._side.plain_produce.call(request(count, lent=False)))
        return (_times(self._post(made, self._side.plain_consume, count))[0] - _times(made)[1]) / 1000, {}

    def json_handover(self, count: int) -> Sample:
        """From the bytes in the producer to the bytes in the consumer, in us: the run of both guests and what lies
        between, without what plain guests take to produce and to consume the same bytes.
        """
        made = good(self._side.json_produce.call(request(count, lent=False)))
        taken = self._post(made, self._side.json_consume, count)
        plain = good(self._side.plain_produce.call(request(count, lent=False)))
        read = checked(self._side.plain_consume.call(plain.output), count)
        whole_ns = _times(taken)[1] - _times(made)[0]
        return max(0.0, whole_ns - _spent_ns(plain) - _spent_ns(read)) / 1000, {}

    def _post(self, made: Outcome, consumer: Function, count: int) -> Outcome:
        self._consumer = consumer
        self._client.request("POST", "/", body=made.output)
        self._client.getresponse().read()
        assert self._outcome is not None
        return checked(self._outcome, count)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    async def _listen(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._handle))
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = int(self._runner.addresses[0][1])

    async def _handle(self, received: web.BaseRequest) -> web.Response:
        body = await received.content.read()
        self._outcome = self._consumer.call(body)  # nobody else waits for this loop
        return web.Response(body=bytes(self._outcome.output))


def _times(outcome: Outcome) -> tuple[int, int]:
    entered, returned = outcome.times_ns  # type: ignore[attr-defined]
    return int(entered), int(returned)


def _spent_ns(outcome: Outcome) -> int:
    entered, returned = _times(outcome)
    return returned - entered


@contextmanager
def opened_hop(rig: Rig) -> Iterator[HttpHop]:
    hop = HttpHop(rig.copies)
    try:
        yield hop
    finally:
        hop.close()
