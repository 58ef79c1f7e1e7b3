"""Two daemons that know each other as peers."""

from __future__ import annotations

from pathlib import Path

from edgeagent.bench.hose_guests import consumer, producer
from tests.integration.daemon import WASM, Daemon

__all__ = ["Pair"]


class Pair:
    """``here`` knows ``there`` as the peer ``ground``, and the other way round as ``sat``."""

    def __init__(self, folder: Path, *settings: str) -> None:
        limits = ("http.body_bytes_max=100000000", "limits.memory_bytes_max=1073741824", *settings)
        self.there = Daemon(folder / "there", *limits, start=False)
        self.here = Daemon(folder / "here", *limits, start=False)
        self.there.start()
        self.here.settings += (f"hose.peers=ground={self.there.url}",)
        self.here.start()
        self.there.stop()
        self.there.listen = f"127.0.0.1:{self.there.port}"
        self.there.settings += (f"hose.peers=sat={self.here.url}",)
        self.there.start()
        for node in (self.here, self.there):
            for name, guest in (("produce", producer()), ("consume", consumer())):
                assert node.request("PUT", f"/v1/functions/{name}", guest, WASM).status == 201
            for name in ("add1", "echo", "trap", "hose_invert"):
                assert node.deploy(name).status == 201

    def stop(self) -> None:
        for node in (self.here, self.there):
            assert node.stop() == 0, node.log_text()
            assert "Traceback" not in node.log_text()
