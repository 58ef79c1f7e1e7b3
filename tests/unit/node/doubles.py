"""Stand-ins for the engine and the artifact store, driven by the test: a run ends when the test says so."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from edgeagent.hose.settings import HoseSettings
from edgeagent.model.errors import EdgeError, NotFound
from edgeagent.model.function import FunctionSection, Import, Limits, Manifest, ModuleInfo
from edgeagent.node.config import Config, load_config
from edgeagent.node.functions import Functions
from edgeagent.node.invoker import Invoker
from edgeagent.node.meters import Meters
from edgeagent.runtime.engine_config import Settings
from edgeagent.runtime.port import Ask, Code, EngineStats, HoseStats, Lease, LoadSpec, Payload
from edgeagent.runtime.pure_call import PurePayload
from edgeagent.state.code_index import CodeIndex
from edgeagent.state.functions import FunctionRows
from edgeagent.state.invocations import Invocations, JournalBounds
from edgeagent.state.store import Store

NOW_MS = 1_795_000_000_000


class FakeOutcome(msgspec.Struct, kw_only=True):
    output: bytes = b""
    duration_us: int = 5
    exit_code: int = 0
    stderr: bytes = b""
    log: Sequence[tuple[int, bytes]] = ()
    inline: bool = False
    error: EdgeError | None = None
    payload: Payload | None = None
    hose: tuple[int, int, int, int] = (0, 0, 0, 0)


class FakeCall:
    """One ``start`` that went to a worker."""

    def __init__(
        self, name: str, body: bytes, args: Sequence[str] | None, wall_ms: float, keep: bool = False
    ) -> None:
        self.keep = keep
        self.name = name
        self.body = body
        self.args = args
        self.wall_ms = wall_ms
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def end(self, output: bytes | None = None, **fields: Any) -> None:
        output = self.body if output is None else output
        if self.keep:
            fields["payload"] = PurePayload(output, {})
            output = b""
        self.future.set_result(FakeOutcome(output=output, **fields))

    def end_unless_done(self) -> None:
        if not self.future.done():
            self.end()


class FakeFunction:
    def __init__(self, engine: FakeEngine, spec: LoadSpec) -> None:
        self.engine = engine
        self.spec = spec
        self.closed = False

    def call(
        self, body: Any, args: Any = None, wall_ms: float = 0, keep: bool = False, move: bool = True
    ) -> FakeOutcome:
        raise NotImplementedError

    def start(
        self,
        body: bytes | memoryview | Payload,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        keep: bool = False,
        move: bool = True,
        context: object = None,
    ) -> FakeOutcome | asyncio.Future[Any]:
        assert not self.closed
        if not isinstance(body, bytes | memoryview):
            body = body.read()
        engine = self.engine
        engine.starts += 1
        if engine.refuse is not None:
            raise engine.refuse
        if engine.mode == "inline" and not keep:
            return engine.inline_outcome or FakeOutcome(output=bytes(body), inline=True)
        call = FakeCall(self.spec.name, bytes(body), args, wall_ms, keep)
        engine.calls.append(call)
        if engine.mode == "quick":
            asyncio.get_running_loop().call_soon(call.end_unless_done)
        return call.future

    def close(self) -> None:
        self.closed = True


class FakeEngine:
    """``mode``: a run ends at once (inline), at the loop's next turn (quick), or when the test ends it (held)."""

    accelerated = False

    def __init__(self, workers: int = 2) -> None:
        self.mode: Literal["inline", "quick", "held"] = "quick"
        self.workers = workers
        self.starts = 0
        self.calls: list[FakeCall] = []
        self.functions: list[FakeFunction] = []
        self.refuse: EdgeError | None = None
        self.refuse_load: EdgeError | None = None
        self.inline_outcome: FakeOutcome | None = None
        self.before_load: Callable[[], object] = lambda: None

    def load(self, code: Code, spec: LoadSpec) -> FakeFunction:
        self.before_load()
        if self.refuse_load is not None:
            raise self.refuse_load
        function = FakeFunction(self, spec)
        self.functions.append(function)
        return function

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        pass

    def use_hoses(self, settings: HoseSettings) -> None:
        pass

    def adopt(self, fd: int, offset: int, count: int) -> Payload:
        raise NotImplementedError

    def serve(self, asked: Callable[[Ask], None], ended: Callable[[int], None]) -> None:
        self.asked, self.ended = asked, ended

    def answer(self, call_id: int, status: int, payload: Payload | None = None) -> None:
        raise NotImplementedError

    def lease(self, count: int) -> Lease:
        raise NotImplementedError

    def payload_of(self, data: bytes | memoryview) -> Payload:
        raise NotImplementedError

    def hose_stats(self) -> HoseStats:
        return HoseStats()

    def hose_missing(self) -> Sequence[str]:
        return ()

    def stats(self) -> EngineStats:
        return EngineStats(
            live_instances=0,
            workers=self.workers,
            workers_busy=0,
            queued=0,
            inline_calls=0,
            worker_calls=0,
            inline_overruns=0,
        )

    def close(self) -> None:
        pass


class FakeCompiled(msgspec.Struct):
    info: ModuleInfo


class FakeArtifacts:
    """Modules in memory; their text says what they are: ``b"bytes"``, ``b"command"``, ``b"odd"`` and so on."""

    # By directory, so that a node that starts again finds what it had.
    disks: ClassVar[dict[Path, dict[str, bytes]]] = {}

    def __init__(self, path: Path) -> None:
        self.modules = self.disks.setdefault(path, {})
        self.compiled: list[str] = []
        self.collected: list[set[str]] = []
        self.refuse: EdgeError | None = None
        self.refuse_collect: Exception | None = None
        self.hold: asyncio.Event | None = None
        self.code_is_cached = False

    async def read(self, sha256: str) -> bytes:
        if sha256 not in self.modules:
            raise NotFound(f"no module {sha256}")
        return self.modules[sha256]

    async def put(self, wasm: bytes) -> str:
        sha256 = hashlib.sha256(wasm).hexdigest()
        self.modules[sha256] = wasm
        return sha256

    async def code(self, sha256: str, settings: Settings) -> tuple[Code, ModuleInfo | None]:
        if self.hold is not None:
            await self.hold.wait()
        if self.refuse is not None:
            raise self.refuse
        if sha256 not in self.modules:
            raise NotFound(f"artifact {sha256} is not here")
        code = Code(path="/dev/null", sha256=sha256, size_bytes=0)
        if self.code_is_cached:
            return code, None
        return code, (await self.compile(sha256, settings)).info

    async def compile(self, sha256: str, settings: Settings) -> FakeCompiled:
        self.compiled.append(sha256)
        return FakeCompiled(info_of(self.modules[sha256]))

    async def collect(self, keep: set[str]) -> int:
        await asyncio.sleep(0)
        if self.refuse_collect is not None:
            raise self.refuse_collect
        self.collected.append(keep)
        gone = [sha256 for sha256 in self.modules if sha256 not in keep]
        for sha256 in gone:
            del self.modules[sha256]
        return len(gone)

    def usage_bytes(self) -> int:
        return sum(map(len, self.modules.values()))


def info_of(wasm: bytes) -> ModuleInfo:
    sha256 = hashlib.sha256(wasm).hexdigest()
    words = wasm.split()
    return ModuleInfo(
        sha256=sha256,
        size_bytes=len(wasm),
        abi="command" if b"command" in words else "bytes" if b"bytes" in words else None,
        imports=(Import("edge_log", "log"),) if b"logs" in words else (),
        unknown_imports=(Import("env", "odd"),) if b"odd" in words else (),
        memory_min_bytes=1 << 40 if b"large" in words else 65536,
        why_no_abi="it exports nothing",
    )


def config(**overrides: Any) -> Config:
    """``config(queue__depth_max="1")``: defaults with these keys set."""
    return load_config(
        None, {"HOME": "/nonexistent"}, {key.replace("__", "."): value for key, value in overrides.items()}
    )


def manifest(name: str, abi: Literal["auto", "bytes", "command"] = "auto", **limits: int) -> Manifest:
    return Manifest(function=FunctionSection(name=name, abi=abi), limits=Limits(**limits))


class Rig(msgspec.Struct, kw_only=True):
    """The parts of a node around a fake engine, with a real store."""

    config: Config
    engine: FakeEngine
    artifacts: FakeArtifacts
    store: Store
    meters: Meters
    functions: Functions
    journal: Invocations
    invoker: Invoker

    async def deploy(self, name: str = "f", wasm: bytes = b"bytes", **limits: Any) -> None:
        await self.functions.deploy(name, wasm, manifest(name, **limits))


@contextlib.asynccontextmanager
async def rig(path: Path, *, workers: int = 2, **overrides: Any) -> AsyncIterator[Rig]:
    settings = config(**overrides)
    store = Store(path / "node.db")
    await store.open()
    engine, artifacts, meters = FakeEngine(workers), FakeArtifacts(path), Meters()
    functions = Functions(settings, engine, artifacts, FunctionRows(store), meters, index=CodeIndex(store))
    await functions.start()
    bounds = JournalBounds(
        records_max=settings.journal.records_max,
        bytes_max=settings.journal.bytes_max,
        ttl_ms=settings.journal.ttl_ms,
        attempts_max=settings.journal.attempts_max,
    )
    journal = Invocations(store, bounds, lambda: NOW_MS)
    invoker = Invoker(settings, functions, journal, meters, workers)
    await invoker.background.start()
    try:
        yield Rig(
            config=settings,
            engine=engine,
            artifacts=artifacts,
            store=store,
            meters=meters,
            functions=functions,
            journal=journal,
            invoker=invoker,
        )
        await quiet(functions, invoker)
    finally:
        await invoker.stop()
        await functions.close()
        await store.close()


async def quiet(functions: Functions, invoker: Invoker) -> None:
    """What must hold after every test: no permit is out and nobody waits."""
    await invoker.stop()
    await turns()
    for entry in functions.all_entries():
        assert entry.admission.idle, entry.name
    assert functions.queue.waiting == 0
    assert invoker.active == 0
    assert invoker.idempotency.flights == 0


async def turns(count: int = 5) -> None:
    """Let the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that other threads or tasks bring about."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - whatever the condition looks at has no event
            await asyncio.sleep(0.001)
