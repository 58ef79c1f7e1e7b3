"""The functions of a node: deploy, load, replace, undeploy.

Rules:

1. A deployed function is a row of the registry; memory follows the row, never the other way. Steps of a
   deploy: the module is on disk, it is compiled and understood, an engine took it, the row is on disk,
   then it is visible. Dying between any two leaves the old version or the new one; what is left over is
   collected at the next start.
2. One deploy or undeploy of a name at a time; a second one is refused (Conflict). Once begun, it goes on
   to its end even when whoever asked for it has left.
3. A replaced or removed version serves the calls that it has taken, then it is closed.
4. Functions are loaded when first called, once however many ask, at most ``runtime.loaded_max`` at a
   time: when one more comes, the idle one that ran least makes room.
5. What no row names is collected only while nothing is deployed, loaded or compiled.
"""

from __future__ import annotations

import asyncio
import builtins
import datetime
import hashlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

import msgspec
import structlog

from edgeagent.model.errors import (
    Conflict,
    NotFound,
    StorageFull,
    StoreFailed,
    TooLarge,
    Unavailable,
)
from edgeagent.model.function import Deployed, Identified, Manifest, ModuleInfo, check_name
from edgeagent.node.admission import Admission, NodeQueue
from edgeagent.node.collector import Collector
from edgeagent.node.config_schema import Config
from edgeagent.node.deploy_checks import check_module, effective_manifest
from edgeagent.node.loaded import LoadedEntry
from edgeagent.node.meters import Meters
from edgeagent.runtime.engine_config import Settings, Target
from edgeagent.runtime.port import Code, Engine, Function, LoadSpec

__all__ = ["Artifacts", "Functions", "Index", "LoadedEntry", "Rows"]

T = TypeVar("T")

log = structlog.get_logger("functions")


class _Compiled(Protocol):
    @property
    def info(self) -> ModuleInfo: ...


class Artifacts(Protocol):
    """What is needed of runtime.artifacts.ArtifactStore."""

    async def put(self, wasm: bytes) -> str: ...
    async def read(self, sha256: str) -> bytes: ...
    async def code(self, sha256: str, settings: Settings) -> tuple[Code, ModuleInfo | None]: ...
    async def compile(self, sha256: str, settings: Settings) -> _Compiled: ...
    async def collect(self, keep: set[str]) -> int: ...
    def usage_bytes(self) -> int: ...


class Index(Protocol):
    """What is needed of state.code_index.CodeIndex."""

    async def keep(self, digests: set[str]) -> int: ...


class Rows(Protocol):
    """What is needed of state.functions.FunctionRows."""

    async def all(self) -> list[Deployed]: ...
    async def put(self, deployed: Deployed) -> None: ...
    async def delete(self, name: str) -> bool: ...


class Functions:
    """See the module; used on the event loop's thread only."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        artifacts: Artifacts,
        rows: Rows,
        meters: Meters,
        *,
        index: Index,
        target: Target = "native",
        scratch_dir: str = "",
    ) -> None:
        self.queue = NodeQueue(config.queue.node_depth_max)
        self.entries: dict[str, LoadedEntry] = {}
        self.on_undeploy: Callable[[str], None] = lambda _: None
        self._config = config
        self._engine = engine
        self._artifacts = artifacts
        self._rows = rows
        self._index = index
        self._meters = meters
        self._target: Target = target
        self._scratch_dir = scratch_dir
        self._deployed: dict[str, Deployed] = {}
        self._changing: set[str] = set()
        self._touched: dict[str, int] = {}
        self._touches = 0
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._retired: set[LoadedEntry] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._engine_loads: set[asyncio.Future[Function]] = set()
        self._collector = Collector(self._collect)
        self._closed = False
        self._refusing = False

    # -- looking ---------------------------------------------------------------------------------------------

    def get(self, name: str) -> Deployed:
        """The deployed function; raises NotFound."""
        deployed = self._deployed.get(name)
        if deployed is None:
            raise NotFound(
                f"no function is called {name[:80]!r} here", hint="edgeagent functions lists what is deployed"
            )
        return deployed

    def find(self, name: str) -> Deployed | None:
        return self._deployed.get(name)

    def touch(self, name: str) -> None:
        """A peer asks for it: of those that peers brought it goes last where there is no room."""
        self._touches += 1
        self._touched[name] = self._touches

    async def wasm(self, sha256: str) -> bytes:
        """The module of a deployed function. Raises NotFound, StoreFailed."""
        return await self._collector.use(self._artifacts.read(sha256))

    def list(self) -> list[Deployed]:
        """All of them by name."""
        return [self._deployed[name] for name in sorted(self._deployed)]

    def ready(self, name: str) -> LoadedEntry | None:
        """The entry when the function is loaded."""
        return self.entries.get(name)

    def all_entries(self) -> builtins.list[LoadedEntry]:
        """Loaded ones and retired ones that still run something."""
        self._retired = {entry for entry in self._retired if not entry.admission.idle}
        return [*self.entries.values(), *self._retired]

    # -- changing --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Read the registry and remove what it does not name."""
        for deployed in await self._rows.all():
            self._deployed[deployed.name] = deployed
            self._meters.function(deployed.name)
        self._collector.want()
        await self._collector.settled()

    async def deploy(
        self,
        name: str,
        wasm: bytes,
        manifest: Manifest | None = None,
        *,
        signature: bytes = b"",
        origin: str = "",
        sources: Mapping[str, Identified] | None = None,
    ) -> tuple[Deployed, bool]:
        """Store, compile, check and register a function; returns it and whether module or manifest changed.

        ``signature`` has been checked; ``origin`` and ``sources`` as in Deployed (None: as they were).
        Raises ManifestRefused, WasmRefused, UnknownImports, TooLarge, Conflict, StorageFull,
        StoreFailed, Unavailable; the version that was there before stays in service then.
        """
        check_name(name)
        manifest = effective_manifest(name, manifest, self._config.limits)
        if len(wasm) > self._config.runtime.wasm_bytes_max:
            raise TooLarge(
                f"the module has {len(wasm)} bytes, over runtime.wasm_bytes_max ="
                f" {self._config.runtime.wasm_bytes_max}"
            )
        return await self._change(name, self._deploy(name, wasm, manifest, signature, origin, sources))

    async def undeploy(self, name: str) -> None:
        """Remove a function, durably; calls that run go on. Raises NotFound, Conflict, StoreFailed."""
        self.get(name)
        await self._change(name, self._undeploy(name))

    async def _change(self, name: str, change: Coroutine[Any, Any, T]) -> T:
        if self._refusing or name in self._changing:
            change.close()
            if self._refusing:
                raise self._stops()
            raise Conflict(f"another deploy or undeploy of {name} is under way", retry_after_s=1)
        self._changing.add(name)
        return await self._to_its_end(self._collector.use(change), lambda: self._changing.discard(name))

    async def _deploy(
        self,
        name: str,
        wasm: bytes,
        manifest: Manifest,
        signature: bytes,
        origin: str,
        sources: Mapping[str, Identified] | None,
    ) -> tuple[Deployed, bool]:
        sha256 = await asyncio.to_thread(lambda: hashlib.sha256(wasm).hexdigest())
        before = self._deployed.get(name)
        is_same = before is not None and before.sha256 == sha256 and before.manifest == manifest
        if before is not None and is_same and sources in (None, before.sources):
            await self._artifacts.put(
                wasm
            )  # nothing, unless the stored one is missing or damaged: mended then
            return await self._relabelled(before, signature, origin), False
        if (
            before is None
            and len(self._deployed) >= self._config.runtime.functions_max
            and not await self._room()
        ):
            raise StorageFull(
                f"{len(self._deployed)} functions are deployed (runtime.functions_max)",
                hint="undeploy one, or raise runtime.functions_max",
            )
        try:
            deployed, function = await self._prepare(
                name, wasm, sha256, manifest, signature, origin, dict(sources or {})
            )
        except BaseException:
            self._collector.want()
            raise
        if before is not None and before.sha256 != sha256:
            self._collector.want()
        self._deployed[name] = deployed
        self._install(deployed, function)
        self._meters.count("deploys")
        log.info(
            "deployed",
            function=name,
            sha256=sha256,
            abi=deployed.abi,
            replaced=before is not None,
            origin=origin,
        )
        return deployed, True

    async def _relabelled(self, before: Deployed, signature: bytes, origin: str) -> Deployed:
        """The same function with a newer signature; what a user deploys himself is no longer a peer's."""
        after = msgspec.structs.replace(
            before, signature=signature or before.signature, origin=before.origin and origin
        )
        if after != before:
            await self._rows.put(after)
            self._deployed[after.name] = after
            if (entry := self.entries.get(after.name)) is not None:
                entry.deployed = after  # who keeps something of a deploy knows it by its object
        return after

    async def _prepare(
        self,
        name: str,
        wasm: bytes,
        sha256: str,
        manifest: Manifest,
        signature: bytes,
        origin: str,
        sources: dict[str, Identified],
    ) -> tuple[Deployed, Function]:
        """Everything of a deploy up to the row on disk."""
        await self._artifacts.put(wasm)
        settings = self._settings(manifest)
        code, info = await self._artifacts.code(sha256, settings)
        if info is None:
            info = self._known_info(sha256) or (await self._artifacts.compile(sha256, settings)).info
        abi = check_module(info, manifest)
        deployed = Deployed(
            name=name,
            sha256=sha256,
            abi=abi,
            manifest=manifest,
            info=info,
            deployed_at=_utc_now(),
            signature=signature,
            origin=origin,
            sources=sources,
        )
        function = await self._into_engine(code, deployed)
        try:
            await self._rows.put(deployed)
        except BaseException:
            function.close()
            raise
        return deployed, function

    async def _room(self) -> bool:
        """Undeploy the function of a peer that was not asked for longest, if one is idle; whether that was so."""
        idle = [
            one.name
            for one in self._deployed.values()
            if one.origin
            and one.name not in self._changing
            and ((entry := self.entries.get(one.name)) is None or entry.admission.idle)
        ]
        if not idle:
            return False
        name = min(idle, key=lambda one: self._touched.get(one, 0))
        self._changing.add(name)
        try:
            await self._undeploy(name)
        finally:
            self._changing.discard(name)
        return True

    async def _undeploy(self, name: str) -> None:
        await self._rows.delete(name)
        del self._deployed[name]
        self._retire(self.entries.pop(name, None))
        self._touched.pop(name, None)
        self._meters.forget(name)
        self.on_undeploy(name)
        self._collector.want()
        log.info("undeployed", function=name)

    # -- loading ---------------------------------------------------------------------------------------------

    async def load(self, name: str) -> LoadedEntry:
        """The entry, loaded first if need be.

        Raises NotFound, WasmRefused, StorageFull, StoreFailed, Unavailable.
        """
        while (entry := self.entries.get(name)) is None:
            self.get(name)
            if self._closed:
                raise self._stops()
            loading = self._loading.get(name)
            if loading is None:
                loading = asyncio.ensure_future(self._collector.use(self._load(name)))
                self._loading[name] = loading
                loading.add_done_callback(lambda done: self._loaded(name, done))
            try:
                # Whoever leaves does not take the load away from the others.
                await asyncio.shield(loading)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and not task.cancelling():
                    raise self._stops() from None
                raise
        return entry

    def _loaded(self, name: str, task: asyncio.Task[None]) -> None:
        del self._loading[name]
        if not task.cancelled():
            task.exception()  # those who wait have it; without one who does, it is of no use

    async def _load(self, name: str) -> None:
        deployed = self.get(name)
        try:
            code, _ = await self._artifacts.code(deployed.sha256, self._settings(deployed.manifest))
        except NotFound as error:
            raise StoreFailed(
                f"the module of {name} is missing from the state directory ({error.message})",
                hint="deploy it again",
            ) from None
        function = await self._into_engine(code, deployed)
        if self._closed or self._deployed.get(name) is not deployed or name in self.entries:
            function.close()  # replaced or removed meanwhile
            return
        self._install(deployed, function)
        self._meters.count("loads")

    async def _into_engine(self, code: Code, deployed: Deployed) -> Function:
        loading = asyncio.ensure_future(asyncio.to_thread(self._engine.load, code, self._spec(deployed)))
        self._engine_loads.add(loading)
        loading.add_done_callback(self._engine_loads.discard)
        # The thread goes on when we are cancelled, and the engine must outlive it.
        return await asyncio.shield(loading)

    def _install(self, deployed: Deployed, function: Function) -> None:
        limit = deployed.manifest.limits.concurrency
        if limit == 0:
            # No more than the workers run at once; as many again stand ready, so that no worker waits
            # for the loop.
            limit = 2 * self._engine.stats().workers
        entry = LoadedEntry(
            deployed,
            function,
            Admission(deployed.name, limit, self._config.queue.depth_max, self.queue),
            self._meters.function(deployed.name),
        )
        self._retire(self.entries.pop(deployed.name, None))
        if len(self.entries) >= self._config.runtime.loaded_max:
            self._unload_one()
        self.entries[deployed.name] = entry

    def _unload_one(self) -> None:
        """The idle one that ran least since the last look goes, of several the one that was loaded first."""
        idle = [entry for entry in self.entries.values() if entry.admission.idle]
        if not idle:
            return  # all busy: one too many for a while, bounded by what may run
        chosen = min(idle, key=lambda entry: entry.runs - entry.seen_runs)
        for entry in idle:
            entry.seen_runs = entry.runs
        del self.entries[chosen.name]
        self._retire(chosen)
        self._meters.count("unloads")

    def _retire(self, entry: LoadedEntry | None) -> None:
        if entry is not None:
            entry.retire()
            self._retired = {old for old in self._retired if not old.admission.idle}
            if not entry.admission.idle:
                self._retired.add(entry)

    async def _collect(self) -> int:
        """Remove what no row names."""
        kept = {deployed.sha256 for deployed in self._deployed.values()}
        removed = await self._artifacts.collect(kept)
        await self._index.keep(kept)
        return removed

    # -- ends ------------------------------------------------------------------------------------------------

    def refuse_changes(self) -> None:
        """The node drains: no more deploys."""
        self._refusing = True

    def stop_loading(self) -> None:
        """Whoever waits for a load gets Unavailable, and nothing more is loaded."""
        self._closed = self._refusing = True
        for task in self._loading.values():
            task.cancel()

    async def close(self) -> None:
        """Cancel what is being deployed or loaded and close every function; idempotent."""
        self.stop_loading()
        pending: builtins.list[asyncio.Future[Any]] = [*self._tasks, *self._loading.values()]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await self._collector.close()
        await asyncio.gather(*self._engine_loads, return_exceptions=True)
        for entry in self.all_entries():
            entry.function.close()
        self.entries.clear()
        self._retired.clear()

    async def _to_its_end(self, work: Coroutine[Any, Any, T], then: Any) -> T:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)

        def ended(done: asyncio.Task[T]) -> None:
            self._tasks.discard(done)
            then()
            if not done.cancelled():
                done.exception()

        task.add_done_callback(ended)
        return await asyncio.shield(task)

    # -- small things ----------------------------------------------------------------------------------------

    def _stops(self) -> Unavailable:
        return Unavailable("the node stops", retry_after_s=self._config.drain.retry_after_s)

    def _settings(self, manifest: Manifest) -> Settings:
        return Settings(fuel=manifest.limits.fuel > 0, target=self._target)

    def _spec(self, deployed: Deployed) -> LoadSpec:
        function = deployed.manifest.function
        return LoadSpec(
            name=deployed.name,
            info=deployed.info,
            limits=deployed.manifest.limits,
            args=function.args,
            env=function.env,
            scratch_dir=self._scratch_dir if function.scratch else "",
            scratch_bytes_max=self._config.runtime.scratch_bytes_max,
        )

    def _known_info(self, sha256: str) -> ModuleInfo | None:
        return next((d.info for d in self._deployed.values() if d.sha256 == sha256), None)


def _utc_now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
