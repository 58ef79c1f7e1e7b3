"""The daemon without its wires: engine, store, functions and invocations, with one start and one end.

Start: lock the state directory, open the store, open the engine, take up the functions and the journal.
End: ``drain`` (refuse new calls, let running ones finish), then ``close`` (stop what is left, and
everything in the reverse order of the start). ``close`` alone is safe at any moment, also after a start
that failed half-way.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import faulthandler
import platform
import shutil
import time
from pathlib import Path
from typing import Any

import structlog

from edgeagent import __version__, native
from edgeagent.hose.local_socket import LocalSocketSettings
from edgeagent.hose.settings import Crossovers, HoseSettings, load_crossovers
from edgeagent.mesh.key_files import load_node
from edgeagent.model.errors import BadConfig, EdgeError
from edgeagent.node import machine
from edgeagent.node.accel import Acceleration, acceleration_of
from edgeagent.node.accel_conditions import AccelConditions
from edgeagent.node.config import Config
from edgeagent.node.continuum import Continuum
from edgeagent.node.feeds import Feeds
from edgeagent.node.function_fetch import FunctionFetch, trusted_keys
from edgeagent.node.functions import Functions
from edgeagent.node.gauges import export_gauges
from edgeagent.node.hose_inbox import HoseInbox
from edgeagent.node.hosts import Hosts, StreamsIn
from edgeagent.node.invoker import Invoker
from edgeagent.node.key_state import KeyState
from edgeagent.node.loop_lag import LoopLag
from edgeagent.node.mailboxes import Mailboxes
from edgeagent.node.membership import Membership
from edgeagent.node.meters import Meters
from edgeagent.node.nn_guest import NnGuest
from edgeagent.node.power import Power, power_of
from edgeagent.node.readiness import why_not_ready
from edgeagent.node.remote_hoses import RemoteHoses
from edgeagent.node.state_dir import StateDir
from edgeagent.node.state_fusion import Fusion
from edgeagent.node.state_guest import StateGuest
from edgeagent.node.systemd import Notifier
from edgeagent.node.ties import Parts
from edgeagent.node.workflows import Workflows
from edgeagent.runtime.artifacts import ArtifactStore
from edgeagent.runtime.compiler import Compiler
from edgeagent.runtime.engine_config import Target, wheel_version
from edgeagent.runtime.open_engine import open_engine
from edgeagent.runtime.port import Engine
from edgeagent.state.code_index import CodeIndex
from edgeagent.state.functions import FunctionRows
from edgeagent.state.invocations import Invocations, JournalBounds, Totals
from edgeagent.state.reserve import Reserve
from edgeagent.state.store import Store

__all__ = ["Node"]

log = structlog.get_logger("node")

UPKEEP_S = 10.0


class Node:
    """One node; everything but ``__init__`` on one event loop's thread."""

    engine: Engine
    store: Store
    functions: Functions
    invoker: Invoker
    journal: Invocations
    feeds: Feeds | None = None
    mailboxes: Mailboxes
    hose_inbox: HoseInbox
    remote: RemoteHoses
    streams_in: StreamsIn
    membership: Membership
    fetch: FunctionFetch
    state: KeyState
    continuum: Continuum
    accel: Acceleration
    power: Power
    gpu_backend = ""  # what brokers drive instead of CUDA: module:attribute
    _scratch: Path

    def __init__(self, config: Config) -> None:
        self.config = config
        self.node_id = ""
        self.started_at = ""
        self.draining = False
        self.trusted: frozenset[bytes] = frozenset()  # public keys whose signatures of functions count
        self.meters = Meters()
        self.notifier = Notifier()
        self.target: Target = "native"
        self.loop_lag = LoopLag(self.meters.loop_lag)
        self._state_dir = StateDir(Path(config.node.state_dir))
        self._ending = contextlib.AsyncExitStack()
        self._begun = 0.0
        self._running = False
        self._upkeep: asyncio.Task[None] | None = None
        self._cpu = machine.CpuMeter()
        self.totals = Totals(0, 0, 0)
        self._quarantined = 0
        self._worker_count = 0

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open everything; when it raises (Conflict, StoreFailed, StorageFull, Unavailable) all is closed."""
        self._begun = time.monotonic()
        self.started_at = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if not faulthandler.is_enabled():
            # Before the first engine: enabled later, its handler would take the guests' faults and kill
            # the node.
            faulthandler.enable(2)
        machine.raise_fd_limit()
        loop = asyncio.get_running_loop()
        # The watchdog counts from now on: opening a large store may take long, and the loop is free
        # meanwhile.
        self.notifier.start_watchdog(loop, self._is_healthy)
        self._ending.callback(self.notifier.stop_watchdog)
        try:
            await self._open(loop)
        except BaseException:
            await self.close()
            raise
        self._running = True
        log.info(
            "started",
            node=self.node_id,
            version=__version__,
            accelerated=self.engine.accelerated,
            functions=len(self.functions.list()),
        )

    async def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        config, ending = self.config, self._ending
        self.trusted = trusted_keys(config)
        self.node_id = await asyncio.to_thread(self._state_dir.open)
        ending.callback(self._state_dir.close)
        state = Path(config.node.state_dir)
        # By node, so that two nodes with one cache directory cannot remove each other's files.
        cache = Path(config.node.cache_dir) / self.node_id
        self.store = Store(state / "node.db", reserve=Reserve(state / "reserve"))
        await self.store.open()
        ending.push_async_callback(self.store.close)
        self.target = self._choose_target()
        self.engine = open_engine(
            config.runtime.engine,
            workers=config.runtime.workers,
            settings_target=self.target,
            small_slots=config.runtime.small_slots,
            large_slots=config.runtime.large_slots,
            inline=config.runtime.inline,
        )
        ending.callback(self.engine.close)
        self.engine.use_hoses(await asyncio.to_thread(self._hose_settings, state))
        if missing := self.engine.hose_missing():
            log.warning("hoses copy: the kernel lacks what they need", missing=list(missing))
        self.engine.attach(loop)
        self._worker_count = self.engine.stats().workers
        compiler = self.compiler = Compiler(
            parallel=config.runtime.compilers,
            wall_s=config.runtime.compile_timeout_ms / 1000,
            memory_bytes=config.runtime.compile_memory_bytes,
        )
        index = CodeIndex(self.store)
        artifacts = await asyncio.to_thread(
            ArtifactStore,
            state / "artifacts",
            cache / "code",
            compiler,
            index,
            config.runtime.artifact_bytes_max,
        )
        scratch = self._scratch = cache / "scratch"
        await asyncio.to_thread(_empty_directory, scratch)
        self.functions = Functions(
            config,
            self.engine,
            artifacts,
            FunctionRows(self.store),
            self.meters,
            index=index,
            target=self.target,
            scratch_dir=str(scratch),
        )
        ending.push_async_callback(self.functions.close)
        await self.functions.start()
        bounds = JournalBounds(
            records_max=config.journal.records_max,
            bytes_max=config.journal.bytes_max,
            ttl_ms=config.journal.ttl_ms,
            attempts_max=config.journal.attempts_max,
        )
        self.journal = Invocations(self.store, bounds, lambda: int(time.time() * 1000))
        self.invoker = Invoker(config, self.functions, self.journal, self.meters, self._worker_count)
        ending.push_async_callback(self.invoker.stop)
        await self.invoker.background.start()
        await self._open_streams(state)
        export_gauges(self, artifacts)
        self.loop_lag.start(loop)
        ending.callback(self.loop_lag.stop)
        self._upkeep = asyncio.ensure_future(self._keep_up())
        ending.push_async_callback(self._stop_upkeep)

    async def join_mesh(self, url: str) -> None:
        """Where the configuration wants it; ``url`` is this node's HTTP, for others. Raises BadConfig."""
        await self.membership.start(
            url,
            functions=lambda: [one.sha256 for one in self.functions.list()],
            queue=lambda: self.functions.queue.waiting,
            lag_us=lambda: self.loop_lag.last_us,
        )
        await self.state.start()
        await self.continuum.start()

    @property
    def workflows(self) -> Workflows:
        return self.continuum.workflows

    def serving(self, url: str) -> None:
        """The wires are up: tell systemd and the log."""
        self.notifier.ready(f"serving on {url}")
        log.info("serving", url=url)

    async def drain(self) -> None:
        """Refuse new calls (Unavailable), let running ones finish within drain.timeout_ms, then stop them.

        Journaled invocations that have not finished wait for the next start.
        """
        if not self._running:
            return
        self.draining = True
        self.notifier.stopping("draining")
        self.functions.refuse_changes()
        in_time = await self.invoker.drain(self.config.drain.timeout_ms / 1000)
        if not in_time:
            log.warning("the drain ran out of time", active=self.invoker.active)
        await self.invoker.stop()

    async def close(self) -> None:
        """Stop everything; idempotent, and safe without a drain."""
        self.draining = True
        self._running = False
        await self._ending.aclose()

    def _is_healthy(self) -> bool:
        # A store that lost a sync takes writes again only after a restart: let the watchdog bring it about.
        return not self._running or self.store.failed is None

    def _look_at_hoses(self) -> None:
        count = self.engine.hose_stats().quarantined
        if count > self._quarantined:
            log.error(
                "instances are set aside: the kernel would not take a window away",
                count=count,
                hint="no mappings are left? raise vm.max_map_count; their slots come back once there are some",
            )
        self._quarantined = count

    async def _stop_upkeep(self) -> None:
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)
            self._look_at_hoses()  # since the last time

    async def _keep_up(self) -> None:
        """Drop old records, look at the load, write the status line: every ten seconds."""
        while True:
            self._cpu.look()
            self._look_at_hoses()
            self.accel.keep_up()
            await self.look_for_room()
            await asyncio.to_thread(_made_again, self._scratch)
            try:
                await self.journal.sweep()
                await self.continuum.sweep()
                self.totals = await self.journal.totals()
            except EdgeError as error:
                log.warning("the journal could not be swept", error=str(error))
            self.notifier.status(
                f"{len(self.functions.list())} functions, {self.invoker.active} calls,"
                f" {self.invoker.background.waiting} invocations wait"
            )
            await asyncio.sleep(UPKEEP_S)

    def _choose_target(self) -> Target:
        wanted = self.config.runtime.target
        if wanted == "auto":
            if machine.jit_allowed():
                return "native"
            log.warning("the system forbids JIT: functions are interpreted (pulley64)")
            return "pulley64"
        return wanted

    # -- views -----------------------------------------------------------------------------------------------

    def ready(self) -> tuple[bool, list[str]]:
        """Whether the node takes calls, and if not, why."""
        if not self._running:
            return False, ["stopped" if self.draining else "not started"]
        reasons = why_not_ready(self.draining, self.store, self.state.store)
        return not reasons, reasons

    async def look_for_room(self) -> None:
        """See whether what is kept can be written: full disks and file systems that can only be read."""
        await self.store.look_for_room()
        await self.state.store.look_for_room()

    def view(self) -> dict[str, Any]:
        """What ``/v1/node`` shows."""
        stats = self.engine.stats()
        return {
            "id": self.node_id,
            "version": __version__,
            "started_at": self.started_at,
            "uptime_ms": int((time.monotonic() - self._begun) * 1000),
            "arch": platform.machine(),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "accelerated": self.engine.accelerated,
            "why_not_accelerated": ""
            if self.engine.accelerated
            else (native.why_not or "runtime.engine = pure"),
            "wasmtime": wheel_version(),
            "target": self.target,
            "workers": stats.workers,
            "functions": len(self.functions.list()),
            "functions_loaded": len(self.functions.entries),
            "hose_port": self.hose_inbox.port,
            "hose_socket": self.feeds.socket.settings.path if self.feeds else "",
            "continuum": self.continuum.view(),
            "state": self.state.view(),
            "gpu": self.conditions.gpu.view(),
            "draining": self.draining,
            "clock": machine.clock_state(),
            "rss_bytes": machine.rss_bytes(),
            "load": self.load(),
            "journal": {
                "records": self.totals.records,
                "pending": self.invoker.background.waiting + self.invoker.background.running,
                "bytes": self.totals.bytes,
            },
            "limits": {
                name: getattr(self.config.limits, name) for name in self.config.limits.__struct_fields__
            },
        }

    def load(self) -> dict[str, Any]:
        """How busy this node is."""
        stats = self.engine.stats()
        return {
            "cpu": self._cpu.share,
            "loadavg": machine.load_average(),
            "memory": machine.memory_bytes(),
            "active": self.invoker.active,
            "waiting": self.functions.queue.waiting,
            "workers_busy": stats.workers_busy,
            "live_instances": stats.live_instances,
            "loop_lag_us": self.loop_lag.worst_us,
        }

    async def _open_streams(self, state: Path) -> None:
        self.mailboxes = Mailboxes(
            self.engine,
            self.functions,
            self.invoker,
            self.meters,
            messages_max=self.config.hose.messages_max,
            bytes_max=self.config.hose.message_bytes_max,
        )
        self.functions.on_undeploy = self._undeployed
        self._ending.push_async_callback(self.mailboxes.stop)
        self.mailboxes.nn = models = NnGuest(self.engine, self.meters, self.config.nn)
        self._ending.push_async_callback(models.stop)
        self.accel = acceleration_of(self, str(self._scratch.parent / "gpu"), state)
        self._ending.push_async_callback(self.accel.stop)
        if self.config.mesh.keys:
            await asyncio.to_thread(load_node, Path(self.config.mesh.keys), self.node_id)
        hosts = Hosts(self.config, self.engine, self.mailboxes, self.meters, self.node_id)
        self._ending.push_async_callback(hosts.close)
        await hosts.start()
        self.fetch = FunctionFetch(
            self.functions, hosts.http, self.trusted, wasm_bytes_max=self.config.runtime.wasm_bytes_max
        )
        self._ending.push_async_callback(self.fetch.close)
        self.membership = Membership(self.config, self.node_id, self.meters)
        self.power = power_of(self.config, self.membership.kind(), self.meters)
        self.invoker.core_w = self.power.core_w
        self.accel.draws(self.power)
        self._ending.push_async_callback(self.membership.close)
        self.conditions = AccelConditions(self.membership, power=self.power)
        self._ending.push_async_callback(self.conditions.close)
        self.conditions.start(self.meters)
        self.conditions.serve(self.accel)
        self.hose_inbox, self.remote, self.streams_in = hosts.inbox, hosts.remote, hosts.streams_in
        if self.config.mesh.listen and self.config.mesh.emulate:
            self.remote.emulate(self.membership.cross)
        self.state = KeyState(
            self.config.state,
            state / "state",
            self.membership,
            self.remote,
            self.meters,
            node_id=self.node_id,
            kind=self.membership.kind(),
        )
        self._ending.push_async_callback(self.state.close)
        await self.state.open()
        guest, fusion = StateGuest(self.engine), Fusion(self.state, bound_for=self.state.bound_for)
        fusion.export(self.meters)
        self.invoker.state, self.mailboxes.state = fusion, guest
        self._ending.push_async_callback(guest.stop)
        parts = Parts(
            node_id=self.node_id,
            functions=self.functions,
            invoker=self.invoker,
            membership=self.membership,
            remote=self.remote,
            meters=self.meters,
            workers=self._worker_count,
            state=self.state,
        )
        self.continuum = Continuum(self.config, self.store, self.fetch, parts)
        self._ending.push_async_callback(self.continuum.stop)
        self.mailboxes.remote = self.remote
        self.invoker.chains.remote = self.remote
        self.invoker.chains.engine = self.engine
        await self._open_feeds(state)

    def _undeployed(self, name: str) -> None:
        self.mailboxes.forget(name)
        self.accel.forget(name)

    async def _open_feeds(self, state: Path) -> None:
        section = self.config.hose
        path = section.socket or str(state / "hose.sock")
        if section.socket == "off":
            return
        settings = LocalSocketSettings(
            path=path, allowed_uids=_uids(section.peer_uids), frame_bytes_max=section.frame_bytes_max
        )
        feeds = Feeds(settings, self.engine, self.functions, self.mailboxes, self.meters)
        try:
            await feeds.start()
        except BadConfig as error:
            if section.socket:
                raise
            # A long state directory is no reason not to start: nobody asked for this socket by name.
            log.warning("no hose socket", why=error.message, hint=error.hint)
            return
        self.feeds = feeds
        self._ending.push_async_callback(feeds.close)

    def _hose_settings(self, state: Path) -> HoseSettings:
        try:
            crossovers = load_crossovers(state)
        except BadConfig as error:  # the node runs without its calibration, only slower
            log.warning("calibration ignored", why=error.message, hint=error.hint)
            crossovers = Crossovers()
        section = self.config.hose
        return HoseSettings(
            crossovers=crossovers, pool_bytes_max=section.pool_bytes_max, idle_ms=section.idle_ms
        )


def _uids(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise BadConfig(f"hose.peer_uids = {text!r} is not numbers of users, separated by commas")
    return tuple(int(word) for word in words)


def _empty_directory(path: Path) -> None:
    """A fresh private directory: what a killed process left in it is removed."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700, parents=True)


def _made_again(path: Path) -> None:
    """A cache may be removed at any time, what lies in it included."""
    with contextlib.suppress(OSError):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
