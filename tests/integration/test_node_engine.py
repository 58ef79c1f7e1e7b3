"""A whole node on real engines: results, limits, queues, leaving callers, drain; nothing leaks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edgeagent import native
from edgeagent.model.errors import (
    BadGuestOutput,
    Busy,
    Cancelled,
    DeadlineExceeded,
    EdgeError,
    GuestTrap,
    ManifestRefused,
    NotFound,
    OutputTooLarge,
    StackOverflow,
    StorageFull,
    StoreFailed,
    Unavailable,
    UnknownImports,
    WasmRefused,
)
from edgeagent.model.function import FunctionSection, Limits, Manifest
from edgeagent.node.config import Config, load_config
from edgeagent.node.node import Node
from tests.guests import wasm

ENGINES = [
    pytest.param("native", marks=pytest.mark.skipif(not native.accelerated, reason="no extension")),
    "pure",
]
Scenario = Callable[[Node], Awaitable[None]]


def play(folder: Path, scenario: Scenario, engine: str = "auto", **keys: str) -> None:
    async def main() -> None:
        node = Node(configured(folder, engine, **keys))
        await node.start()
        try:
            await scenario(node)
        finally:
            await node.close()
            await node.close()

    asyncio.run(main())


def configured(folder: Path, engine: str = "auto", **keys: str) -> Config:
    return load_config(
        None,
        {"HOME": str(folder)},
        {
            "node.state_dir": str(folder / "state"),
            "node.cache_dir": str(folder / "cache"),
            "runtime.engine": engine,
            "runtime.small_slots": "8",
            **{key.replace("__", "."): value for key, value in keys.items()},
        },
    )


async def deploy(node: Node, *guests: str, **limits: int) -> None:
    for guest in guests:
        manifest = Manifest(function=FunctionSection(name=_name(guest)), limits=Limits(**limits))
        await node.functions.deploy(_name(guest), wasm(guest), manifest)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - other threads bring it about
            await asyncio.sleep(0.001)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _name(guest: str) -> str:
    return guest.replace("_", "-")


@pytest.mark.parametrize("engine", ENGINES)
def test_results_and_every_kind_of_failure(tmp_path: Path, engine: str) -> None:
    async def scenario(node: Node) -> None:
        await deploy(node, "add1", "trap", "recurse", "loop", "cmd_echo", "nonsense_handle", wall_ms=50)
        await deploy(node, "big_output", output_bytes=1000)
        assert (await node.invoker.invoke("add1", b"abc")).output == b"bcd"
        assert (await node.invoker.invoke("cmd-echo", b"hello")).output == b"hello"
        for guest, kind in (
            ("trap", GuestTrap),
            ("recurse", StackOverflow),
            ("loop", DeadlineExceeded),
            ("nonsense-handle", BadGuestOutput),
            ("big-output", OutputTooLarge),
        ):
            with pytest.raises(kind):
                await node.invoker.invoke(guest, b"\xff" * 64)
        assert node.engine.stats().live_instances == 0
        text = node.meters.render().decode()
        assert 'edgeagent_invocations_total{function="loop",outcome="deadline-exceeded"} 1.0' in text
        assert 'edgeagent_invocations_total{function="add1",outcome="success"} 1.0' in text

    play(tmp_path, scenario, engine)


def test_modules_that_are_refused(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        for name, module, kind in (
            ("a", b"not wasm", WasmRefused),
            ("a", wasm("add1")[:-5], WasmRefused),
            ("a", bytes(1 << 20), WasmRefused),
            ("a", wasm("no_abi"), WasmRefused),
            ("a", wasm("unknown_imports"), UnknownImports),
            ("../a", wasm("add1"), ManifestRefused),
        ):
            with pytest.raises(kind):
                await node.functions.deploy(name, module)
        with pytest.raises(WasmRefused, match="abi"):
            await node.functions.deploy(
                "a", wasm("add1"), Manifest(function=FunctionSection(name="a", abi="command"))
            )
        assert node.functions.list() == []
        await until(lambda: not list((tmp_path / "state").glob("artifacts/**/*.wasm")))

    play(tmp_path, scenario)


@pytest.mark.parametrize("engine", ENGINES)
def test_callers_who_leave_stop_their_guests(tmp_path: Path, engine: str) -> None:
    async def scenario(node: Node) -> None:
        await deploy(node, "loop", "add1", wall_ms=60_000)
        calls = [asyncio.ensure_future(node.invoker.invoke("loop", b"")) for _ in range(10)]
        await until(lambda: node.engine.stats().workers_busy)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        # Both workers are free again long before the guests' own limit.
        async with asyncio.timeout(20):
            assert (await node.invoker.invoke("add1", b"a")).output == b"b"
            await until(lambda: not node.engine.stats().live_instances)
        assert node.functions.entries["loop"].admission.idle

    play(tmp_path, scenario, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_leaks(tmp_path: Path, engine: str) -> None:
    async def scenario(node: Node) -> None:
        await deploy(node, "add1", "trap", "loop", wall_ms=5)
        invoker = node.invoker

        async def one(number: int) -> None:
            name = ("add1", "trap", "add1", "loop", "absent")[number % 5 if number % 25 else 3]
            call = asyncio.ensure_future(invoker.invoke(name, bytes([number % 200]) * (number % 50)))
            if number % 7 == 0:
                await asyncio.sleep(0)
                call.cancel()
            with contextlib.suppress(EdgeError, asyncio.CancelledError):
                await call

        async def many() -> None:
            await asyncio.gather(*(one(number) for number in range(300)))
            await until(lambda: not node.engine.stats().live_instances)

        await many()
        descriptors = open_descriptors()
        for _ in range(2):
            await many()
        assert open_descriptors() <= descriptors
        assert node.engine.stats().live_instances == 0
        assert invoker.active == 0
        assert node.functions.queue.waiting == 0
        assert all(entry.admission.idle for entry in node.functions.all_entries())

    play(tmp_path, scenario, engine, queue__depth_max="100")


def test_a_busy_function_refuses_and_recovers(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        await deploy(node, "loop", wall_ms=200, concurrency=1)
        calls = [asyncio.ensure_future(node.invoker.invoke("loop", b"")) for _ in range(5)]
        errors = [type(error) for error in await asyncio.gather(*calls, return_exceptions=True)]
        assert errors.count(Busy) == 3
        assert errors.count(DeadlineExceeded) == 2

    play(tmp_path, scenario, queue__depth_max="1")


def test_the_short_way_is_taken_once_history_allows_it(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        await deploy(node, "add1")
        for _ in range(200):
            result = node.invoker.try_invoke("add1", b"abc") or await node.invoker.invoke("add1", b"abc")
            assert result.output == b"bcd"
            if result.inline:
                break
            await asyncio.sleep(0)
        assert result.inline
        assert node.meters.function("add1").inline

    if not native.accelerated:
        pytest.skip("no extension")
    play(tmp_path, scenario, "native")


def test_a_drain_and_what_comes_after(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        await deploy(node, "loop", "add1", wall_ms=60_000)
        assert node.ready() == (True, [])
        running = asyncio.ensure_future(node.invoker.invoke("loop", b""))
        await until(lambda: node.engine.stats().workers_busy)
        draining = asyncio.ensure_future(node.drain())
        await asyncio.sleep(0)
        assert node.ready() == (False, ["draining"])
        with pytest.raises(Unavailable):
            await node.invoker.invoke("add1", b"")
        await draining
        with pytest.raises(Cancelled):
            await running
        await node.close()
        assert node.ready() == (False, ["stopped"])

    play(tmp_path, scenario, drain__timeout_ms="50")


def test_the_view_says_what_it_must(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        await deploy(node, "add1")
        view = node.view()
        assert {
            "id",
            "version",
            "uptime_ms",
            "arch",
            "kernel",
            "python",
            "accelerated",
            "why_not_accelerated",
            "wasmtime",
            "target",
            "workers",
            "functions",
            "load",
            "limits",
            "draining",
            "clock",
            "rss_bytes",
        } <= set(view)
        assert (view["functions"], view["draining"], view["clock"]) == (1, False, "ok")
        assert view["limits"]["memory_bytes_max"] == node.config.limits.memory_bytes_max

    play(tmp_path, scenario)


@pytest.mark.parametrize("engine", ENGINES)
def test_where_jit_is_forbidden_functions_are_interpreted(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeagent.node.machine.jit_allowed", lambda: False)

    async def scenario(node: Node) -> None:
        await deploy(node, "add1")
        assert node.view()["target"] == "pulley64"
        assert (await node.invoker.invoke("add1", b"abc")).output == b"bcd"

    play(tmp_path, scenario, engine)


def test_a_store_that_lost_a_sync_makes_the_node_unready(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        assert node._is_healthy()
        node.store._lost = StoreFailed("the disk did not confirm a write")
        ready, reasons = node.ready()
        assert not ready
        assert "confirm" in reasons[0]
        assert not node._is_healthy()

    play(tmp_path, scenario)


def test_systemd_hears_of_the_start_the_state_and_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeagent.node.node.UPKEEP_S", 0.001)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "20000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        said: list[str] = []

        async def heard(*texts: str) -> None:
            async with asyncio.timeout(20):
                while not all(any(text in line for line in said) for text in texts):
                    line = await asyncio.get_running_loop().sock_recv(manager, 500)
                    said.append(line.decode())

        async def scenario(node: Node) -> None:
            node.serving("http://127.0.0.1:1")
            await heard("READY=1\nSTATUS=serving on http://127.0.0.1:1", "WATCHDOG=1", "STATUS=0 functions")
            drained = asyncio.ensure_future(node.drain())
            await heard("STOPPING=1")
            await drained

        play(tmp_path, scenario)


def test_upkeep_goes_on_when_the_journal_cannot_be_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    monkeypatch.setattr("edgeagent.node.node.UPKEEP_S", 0.001)
    monkeypatch.setattr("edgeagent.node.machine.CpuMeter.look", lambda self: looks.append(1))

    async def scenario(node: Node) -> None:
        async def refuse() -> int:
            raise StoreFailed("no")

        node.journal.sweep = refuse  # type: ignore[method-assign]
        seen = len(looks)
        await until(lambda: len(looks) > seen + 2)

    play(tmp_path, scenario)


def test_upkeep_makes_a_removed_scratch_directory_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeagent.node.node.UPKEEP_S", 0.01)

    async def scenario(node: Node) -> None:
        cache = Path(node.config.node.cache_dir)
        await asyncio.to_thread(cache.rename, tmp_path / "gone")
        await until((cache / node.node_id / "scratch").is_dir)

    play(tmp_path, scenario)


def test_the_interpreter_can_be_asked_for_and_a_drain_needs_a_start(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        assert node.view()["target"] == "pulley64"

    play(tmp_path, scenario, runtime__target="pulley64")
    asyncio.run(Node(configured(tmp_path)).drain())


def test_a_full_quota_while_deploying(tmp_path: Path) -> None:
    async def scenario(node: Node) -> None:
        await deploy(node, "add1")
        large = wasm("add1") + b"\0\x81\x80\x40" + b"\0" * (1 << 20)  # a custom section of a MiB
        with pytest.raises(StorageFull):
            await node.functions.deploy("large", large)
        with pytest.raises(NotFound):
            node.functions.get("large")
        assert (await node.invoker.invoke("add1", b"a")).output == b"b"

    play(tmp_path, scenario, runtime__artifact_bytes_max=str(1 << 20))


def test_a_start_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "node.db").write_bytes(b"garbage" * 1000)

    async def main() -> None:
        node = Node(configured(tmp_path))
        with pytest.raises(StoreFailed, match=r"node\.db"):
            await node.start()
        assert node.ready()[0] is False
        (tmp_path / "state" / "node.db").unlink()
        second = Node(configured(tmp_path))
        await second.start()  # the lock is free
        await second.close()

    asyncio.run(main())
