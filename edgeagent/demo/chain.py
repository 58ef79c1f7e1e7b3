"""The wildfire functions over HTTP: deploying them, and running them as one chain."""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import PeerFailed, Unavailable

__all__ = ["STEPS", "Run", "Step", "call_node", "deploy_all", "guests_directory", "run_chain"]

STEPS = ("calibrate", "index", "detect", "cluster", "alert")
_TIMEOUT_S = 120


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a run. ``hose`` is the tier that brought its input, ``duration_ms`` the guest's time."""

    name: str
    node: str | None
    backend: str | None
    hose: str
    cold: bool
    duration_ms: float
    copied_bytes: int
    mapped_bytes: int
    bytes_in: int
    bytes_out: int

    def document(self) -> dict[str, Any]:
        """As ``demo --json`` gives it; a lone node predicts nothing, and has no choice to explain."""
        return {**msgspec.structs.asdict(self), "why": "only node", "predicted_ms": None}


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One request through all steps; ``total_ms`` is what the caller waited."""

    steps: list[Step]
    output: bytes
    total_ms: float


def guests_directory() -> Path:
    """Where the compiled guests are: $EDGEAGENT_EXAMPLES, the repository, or what was installed with the package."""
    named = os.environ.get("EDGEAGENT_EXAMPLES")
    places = [Path(named)] if named else []
    places += [
        Path(__file__).resolve().parents[2] / "examples",
        Path(sys.prefix) / "share/edgeagent/examples",
    ]
    for place in places:
        if (place / "wildfire" / "calibrate.wasm").exists():
            return place / "wildfire"
    looked = ", ".join(str(place) for place in places)
    raise Unavailable(f"the demo's functions are not here; looked in {looked}", hint="set EDGEAGENT_EXAMPLES")


def deploy_all(url: str) -> None:
    """Deploy the five functions on the node at ``url``."""
    directory = guests_directory()
    for name in STEPS:
        wasm = (directory / f"{name}.wasm").read_bytes()
        call_node(url, "PUT", f"/v1/functions/{name}", wasm, "application/wasm")


def run_chain(url: str, body: bytes) -> Run:
    """Run the steps in one request; raises PeerFailed with the node's problem."""
    began = time.perf_counter()
    headers, output = call_node(
        url,
        "POST",
        f"/functions/{STEPS[0]}",
        body,
        "application/octet-stream",
        {"Edgeagent-Then": ",".join(STEPS[1:])},
    )
    total_ms = round((time.perf_counter() - began) * 1000, 3)
    try:
        told = msgspec.json.decode(headers["edgeagent-steps"], type=list[_Told])
    except (*UNDECODABLE, KeyError) as error:
        raise PeerFailed(f"the node at {url} told nothing of its steps: {error}") from None
    steps = [
        Step(
            name=step.function,
            node=headers.get("edgeagent-node"),
            backend=headers.get("edgeagent-backend"),
            hose=step.hose,
            cold=step.cold,
            duration_ms=step.duration_us / 1000,
            copied_bytes=step.copied_bytes,
            mapped_bytes=step.mapped_bytes,
            bytes_in=step.bytes_in,
            bytes_out=step.bytes_out,
        )
        for step in told
    ]
    return Run(steps=steps, output=output, total_ms=total_ms)


class _Told(msgspec.Struct, kw_only=True):
    """A member of the header Edgeagent-Steps."""

    function: str
    duration_us: int
    cold: bool
    hose: str
    copied_bytes: int
    mapped_bytes: int
    bytes_in: int
    bytes_out: int


def call_node(
    url: str, method: str, path: str, body: bytes, kind: str, more: dict[str, str] | None = None
) -> tuple[dict[str, str], bytes]:
    """Headers (lower-case names) and body of a success. Raises PeerFailed with the node's problem."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, body, {"Content-Type": kind, **(more or {})})
        reply = connection.getresponse()
        answer = reply.read()
    except (OSError, http.client.HTTPException) as error:
        raise PeerFailed(f"the node at {url} did not answer {method} {path}: {error}") from None
    finally:
        connection.close()
    if reply.status >= 400:
        raise PeerFailed(f"{method} {path}: HTTP {reply.status}: {_detail(answer)}")
    return {name.lower(): value for name, value in reply.getheaders()}, answer


def _detail(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["detail"])
    except (ValueError, KeyError, TypeError):
        return answer[:200].decode("utf-8", "replace")
