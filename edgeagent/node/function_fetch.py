"""Functions that this node lacks, from the peers that have them: by digest, signed by whom this node trusts.

A peer says what should be here: name, digest, manifest and signature. The bytes may come from anybody, since the digest
decides. What this node's own users deployed is never replaced by what peers bring; what peers brought may be.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import structlog

from edgeagent.model.errors import Conflict, EdgeError, PeerFailed, Refused, Unavailable
from edgeagent.model.function import Deployed, Manifest, check_name
from edgeagent.model.signature import admit_signature, public_keys
from edgeagent.node.config_schema import Config
from edgeagent.node.functions import Functions
from edgeagent.node.peer_http import PeerReply
from edgeagent.node.peers import is_base_url
from edgeagent.runtime.manifest import read_manifest_json

__all__ = ["FunctionFetch", "Http", "trusted_keys"]

T = TypeVar("T")

log = structlog.get_logger("functions")

FETCH_S = 120.0  # the longest that one source may take; whoever waits with less time leaves before
SOURCES_MAX = 16
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NODE = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class Http(Protocol):
    """What is needed of peer_http.PeerHttp."""

    async def request_url(
        self, url: str, method: str, path: str, *, timeout_s: float = 0.0, bytes_max: int = 0
    ) -> PeerReply: ...


def trusted_keys(config: Config) -> frozenset[bytes]:
    """Whose signatures of functions count here. Raises BadConfig."""
    return public_keys(config.placement.signers, "placement.signers") | public_keys(
        config.mesh.operators, "mesh.operators"
    )


class FunctionFetch:
    """On the event loop's thread."""

    def __init__(
        self, functions: Functions, http: Http, trusted: frozenset[bytes], *, wasm_bytes_max: int
    ) -> None:
        self._functions = functions
        self._http = http
        self._trusted = trusted
        self._wasm_bytes_max = wasm_bytes_max
        self._fetching: dict[str, asyncio.Task[tuple[bytes, str]]] = {}
        self._deploying: dict[tuple[str, str], asyncio.Future[tuple[Deployed, bool]]] = {}
        self._closed = False

    async def ensure(
        self,
        name: str,
        sha256: str,
        manifest_json: bytes,
        signature: bytes,
        sources: Sequence[str],
        *,
        unsigned_ok: bool,
    ) -> Deployed:
        """The function, deployed here if it was not yet. ``sources`` are base URLs, asked in turn.

        ``unsigned_ok``: who asks may bring what nobody signed, or, where this node names no trusted keys, anybody.
        Raises Refused (also as ManifestRefused and WasmRefused), Conflict where a user deployed another module of
        this name here, PeerFailed when no source gave these bytes, and what a deploy raises.
        """
        there = self._here(name, sha256)
        if there is not None:
            return there
        manifest = _checked(name, sha256, manifest_json)
        if signature:
            admit_signature(
                signature, sha256, manifest, self._trusted, unknown_ok=unsigned_ok and not self._trusted
            )
        elif not unsigned_ok:
            raise Refused(
                f"{name} is not signed", hint="edgeagent sign signs it; unsigned ones are for loopback alone"
            )
        wasm, origin = await self._wasm(sha256, tuple(sources[:SOURCES_MAX]))
        # From here to the deploy nothing waits, and while that goes on nobody else can deploy this name.
        there = self._here(name, sha256)
        if there is not None:
            return there
        deploying = self._deploying.get((name, sha256))
        if deploying is None:
            deploying = asyncio.ensure_future(
                self._functions.deploy(name, wasm, manifest, signature=signature, origin=origin)
            )
            self._deploying[name, sha256] = deploying
            deploying.add_done_callback(lambda done: self._deployed(name, sha256, done))
        deployed, _ = await _joined(deploying)
        return deployed

    async def close(self) -> None:
        """Whoever waits gets Unavailable. Idempotent."""
        self._closed = True
        running: list[asyncio.Future[Any]] = [*self._fetching.values(), *self._deploying.values()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _here(self, name: str, sha256: str) -> Deployed | None:
        """Raises Conflict."""
        there = self._functions.find(name)
        if there is None or there.sha256 == sha256:
            return there
        if there.origin:
            return None  # a peer brought that one, and peers may replace it
        raise Conflict(
            f"another {name} is deployed here: {there.sha256}, not {sha256}",
            hint="deploy one of them under another name",
            here=there.sha256,
            wanted=sha256,
        )

    async def _wasm(self, sha256: str, sources: tuple[str, ...]) -> tuple[bytes, str]:
        """The bytes and who had them: of a function here, else of the fetch that runs, else of one of our own."""
        same = next((one for one in self._functions.list() if one.sha256 == sha256), None)
        if same is not None:
            return await self._functions.wasm(sha256), same.origin or "here"
        tried: set[str] = set()
        while True:
            task = self._fetching.get(sha256)
            is_own = task is None
            if task is None:
                if self._closed:
                    raise _stops()
                task = asyncio.ensure_future(self._fetch(sha256, sources))
                self._fetching[sha256] = task
                task.add_done_callback(lambda done: self._fetched(sha256, done))
            try:
                return await _joined(task)
            except PeerFailed as failed:
                tried.update(failed.details.get("sources", ()))
                if is_own or tried.issuperset(sources):
                    raise

    def _fetched(self, sha256: str, task: asyncio.Task[tuple[bytes, str]]) -> None:
        del self._fetching[sha256]
        _seen(task)

    def _deployed(self, name: str, sha256: str, task: asyncio.Future[tuple[Deployed, bool]]) -> None:
        del self._deploying[name, sha256]
        _seen(task)

    async def _fetch(self, sha256: str, sources: tuple[str, ...]) -> tuple[bytes, str]:
        """Raises PeerFailed, which says what each source did."""
        failures = []
        for source in sources:
            try:
                return await self._fetch_from(source.rstrip("/"), sha256)
            except EdgeError as error:
                failures.append(error.message[:200])
                log.warning("a function's module did not come", sha256=sha256, source=source, why=str(error))
        raise PeerFailed(
            f"no source gave the module {sha256[:12]}: {'; '.join(failures) or 'none is known'}",
            hint="deploy the function here",
            sources=list(sources),
        )

    async def _fetch_from(self, source: str, sha256: str) -> tuple[bytes, str]:
        if not is_base_url(source):
            raise PeerFailed(f"{source!r:.100} is not http://HOST:PORT")
        reply = await self._http.request_url(
            source, "GET", f"/v1/artifacts/{sha256}", timeout_s=FETCH_S, bytes_max=self._wasm_bytes_max
        )
        got = await asyncio.to_thread(lambda: hashlib.sha256(reply.body).hexdigest())
        if got != sha256:
            raise PeerFailed(f"{source} sent other bytes: {got[:12]}")
        said = reply.headers.get("edgeagent-node", "")
        return reply.body, said if _NODE.fullmatch(said) else source


def _checked(name: str, sha256: str, manifest_json: bytes) -> Manifest:
    """Raises Refused, ManifestRefused."""
    check_name(name)
    if not _DIGEST.fullmatch(sha256):
        raise Refused(f"{sha256!r:.100} is no SHA-256 in hexadecimal")
    manifest = read_manifest_json(manifest_json)
    if manifest.function.name != name:
        raise Refused(f"the manifest names the function {manifest.function.name!r}, and it comes as {name!r}")
    return manifest


async def _joined(task: asyncio.Future[T]) -> T:
    """Its result; whoever leaves does not take it away from the others. Raises Unavailable when it is stopped."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current is not None and not current.cancelling():
            raise _stops() from None
        raise


def _seen(task: asyncio.Future[Any]) -> None:
    """Those who wait have the error; without one who does, it is of no use."""
    if not task.cancelled():
        task.exception()


def _stops() -> Unavailable:
    return Unavailable("the node stops", retry_after_s=1)
