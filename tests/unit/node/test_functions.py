"""Deploy, load, replace, undeploy: in the order that loses nothing, one at a time per name."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edgeagent.model.errors import (
    Busy,
    Conflict,
    ManifestRefused,
    NotFound,
    StorageFull,
    StoreFailed,
    TooLarge,
    Unavailable,
    UnknownImports,
    WasmRefused,
)
from edgeagent.state.functions import FunctionRows
from tests.unit.node.doubles import Rig, manifest, rig, turns, until

Scenario = Callable[[Rig], Awaitable[None]]


def play(path: Path, scenario: Scenario, **options: Any) -> None:
    async def main() -> None:
        async with rig(path, **options) as parts:
            await scenario(parts)

    asyncio.run(main())


async def call(parts: Rig, name: str = "f") -> bytes:
    return bytes((await parts.invoker.invoke(name, b"x")).output)


def test_a_deployed_function_is_there_and_stays_there(tmp_path: Path) -> None:
    async def first(parts: Rig) -> None:
        deployed, is_new = await parts.functions.deploy("f", b"bytes", manifest("f"))
        assert is_new
        assert (deployed.name, deployed.abi, parts.functions.get("f")) == ("f", "bytes", deployed)
        assert parts.functions.ready("f") is not None
        await parts.deploy("a", b"command")
        assert [one.name for one in parts.functions.list()] == ["a", "f"]

    async def second(parts: Rig) -> None:
        assert [one.name for one in parts.functions.list()] == ["a", "f"]
        assert parts.functions.ready("f") is None
        result = await parts.invoker.invoke("f", b"x")
        assert result.cold
        assert not (await parts.invoker.invoke("f", b"x")).cold
        assert parts.meters.function("f").cold == 1

    play(tmp_path, first)
    play(tmp_path, second)


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        deployed, _ = await parts.functions.deploy("f", b"bytes", manifest("f"))
        assert await parts.functions.deploy("f", b"bytes", manifest("f")) == (deployed, False)
        assert len(parts.engine.functions) == 1
        _, is_new = await parts.functions.deploy("f", b"bytes", manifest("f", wall_ms=5))
        assert is_new
        assert (await parts.functions.deploy("g", b"bytes"))[1]

    play(tmp_path, scenario)


def test_a_peers_function_that_its_user_deploys_is_his_in_what_is_loaded_too(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        await parts.functions.deploy("f", b"bytes", origin="peer")
        entry = await parts.functions.load("f")
        _, is_new = await parts.functions.deploy("f", b"bytes")
        assert not is_new
        assert parts.functions.get("f").origin == ""
        assert await parts.functions.load("f") is entry
        assert entry.deployed is parts.functions.get("f")

    play(tmp_path, scenario)


def test_two_deploys_of_one_name_at_once(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.artifacts.hold = asyncio.Event()
        first = asyncio.ensure_future(parts.functions.deploy("f", b"bytes 1"))
        await turns()
        with pytest.raises(Conflict):
            await parts.functions.deploy("f", b"bytes 2")
        other = asyncio.ensure_future(parts.functions.deploy("g", b"bytes 3"))
        await turns()
        parts.artifacts.hold.set()
        assert (await first)[1]
        assert (await other)[1]
        with pytest.raises(NotFound):
            await parts.functions.undeploy("h")
        assert (await parts.functions.deploy("f", b"bytes 2"))[1]

    play(tmp_path, scenario)


def test_a_deploy_goes_on_when_its_caller_leaves(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.artifacts.hold = asyncio.Event()
        leaves = asyncio.ensure_future(parts.functions.deploy("f", b"bytes"))
        await turns()
        leaves.cancel()
        await turns()
        parts.artifacts.hold.set()
        await until(lambda: parts.functions.ready("f"))
        assert [row.name for row in await FunctionRows(parts.store).all()] == ["f"]

    play(tmp_path, scenario)


def test_a_deploy_that_fails_leaves_the_old_version_in_service(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        await parts.deploy("f", b"bytes 1")
        before = parts.functions.get("f")
        parts.engine.refuse_load = WasmRefused("too many tables")
        with pytest.raises(WasmRefused):
            await parts.deploy("f", b"bytes 2")
        parts.engine.refuse_load = None
        parts.artifacts.refuse = StorageFull("disk full")
        with pytest.raises(StorageFull):
            await parts.deploy("f", b"bytes 2")
        parts.artifacts.refuse = None
        with pytest.raises(UnknownImports):
            await parts.deploy("f", b"odd bytes")
        pages = await parts.store.write(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        await parts.store.write(lambda c: c.execute(f"PRAGMA max_page_count={pages}").fetchone())
        wide = manifest("f")
        wide.function.env.update({f"K{n}": "v" * 1000 for n in range(100)})
        with pytest.raises(StorageFull):
            await parts.functions.deploy("f", b"bytes 2", wide)
        assert parts.engine.functions[-1].closed
        assert parts.functions.get("f") == before
        assert await call(parts) == b"x"
        await until(lambda: list(parts.artifacts.modules) == [before.sha256])  # leftovers are gone

    play(tmp_path, scenario)


def test_running_calls_finish_on_the_version_that_took_them(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        await parts.deploy("f", b"bytes 1", concurrency=1)
        running, waiting = (asyncio.ensure_future(call(parts)) for _ in range(2))
        await until(lambda: parts.functions.queue.waiting)
        await parts.deploy("f", b"bytes 2")
        old, new = parts.engine.functions
        assert [old.closed, new.closed] == [False, False]
        later = asyncio.ensure_future(call(parts))
        await until(lambda: len(parts.engine.calls) == 2)
        parts.engine.calls[1].end(b"new")
        assert await later == b"new"
        parts.engine.calls[0].end(b"old")
        assert [await running, old.closed] == [b"old", False]
        await until(lambda: len(parts.engine.calls) == 3)
        parts.engine.calls[2].end(b"old too")
        assert await waiting == b"old too"
        assert [old.closed, new.closed] == [True, False]

    play(tmp_path, scenario)


def test_running_calls_finish_when_their_function_is_undeployed(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        await parts.deploy("f")
        running = asyncio.ensure_future(call(parts))
        await until(lambda: parts.engine.calls)
        await parts.functions.undeploy("f")
        for ask in (call(parts), parts.functions.undeploy("f")):
            with pytest.raises(NotFound):
                await ask
        assert "f" not in parts.meters.functions
        parts.engine.calls[0].end(b"late")
        assert await running == b"late"
        assert parts.engine.functions[0].closed
        assert await FunctionRows(parts.store).all() == []
        await until(lambda: not parts.artifacts.modules)

    play(tmp_path, scenario)


def test_a_load_happens_once_for_all_who_ask(tmp_path: Path) -> None:
    async def deploy(parts: Rig) -> None:
        await parts.deploy("f")

    async def scenario(parts: Rig) -> None:
        parts.artifacts.hold = asyncio.Event()
        calls = [asyncio.ensure_future(call(parts)) for _ in range(5)]
        await turns()
        calls[0].cancel()
        parts.artifacts.hold.set()
        assert await asyncio.gather(*calls[1:]) == [b"x"] * 4
        assert len(parts.engine.functions) == 1

    play(tmp_path, deploy)
    play(tmp_path, scenario)


def test_a_load_that_fails_fails_for_all_and_is_tried_again(tmp_path: Path) -> None:
    async def deploy(parts: Rig) -> None:
        await parts.deploy("f")

    async def scenario(parts: Rig) -> None:
        parts.engine.refuse_load = WasmRefused("no")
        results = await asyncio.gather(*(call(parts) for _ in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [WasmRefused] * 3
        parts.engine.refuse_load = None
        assert await call(parts) == b"x"

    play(tmp_path, deploy)
    play(tmp_path, scenario)


def test_a_deadline_passes_while_the_function_is_loaded(tmp_path: Path) -> None:
    async def deploy(parts: Rig) -> None:
        await parts.deploy("f")

    async def scenario(parts: Rig) -> None:
        parts.artifacts.hold = asyncio.Event()
        with pytest.raises(Exception, match="while f was loaded"):
            await parts.invoker.invoke("f", b"x", wall_ms=5)
        parts.artifacts.hold.set()
        assert (await parts.invoker.invoke("f", b"x", wall_ms=5000)).output == b"x"

    play(tmp_path, deploy)
    play(tmp_path, scenario)


def test_a_load_that_was_overtaken_by_a_deploy_is_dropped(tmp_path: Path) -> None:
    async def deploy(parts: Rig) -> None:
        await parts.deploy("f", b"bytes 1")

    async def scenario(parts: Rig) -> None:
        held, go_on = threading.Event(), threading.Event()

        def hold_the_first() -> None:
            parts.engine.before_load = lambda: None
            held.set()
            assert go_on.wait(20)

        parts.engine.before_load = hold_the_first
        waits = asyncio.ensure_future(call(parts))
        await asyncio.to_thread(held.wait, 20)
        await parts.deploy("f", b"bytes 2")
        go_on.set()
        assert await waits == b"x"
        await until(lambda: len(parts.engine.functions) == 2)
        newer, older = parts.engine.functions
        await until(lambda: older.closed)
        assert not newer.closed

    play(tmp_path, deploy)
    play(tmp_path, scenario)


def test_idle_functions_make_room(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        await parts.deploy("a", b"bytes a")
        await parts.deploy("b", b"bytes b")
        await parts.deploy("c", b"bytes c")
        assert set(parts.functions.entries) == {"b", "c"}
        await call(parts, "b")
        await call(parts, "a")  # c was not used since the last look
        assert set(parts.functions.entries) == {"a", "b"}
        assert sum(function.closed for function in parts.engine.functions) == 2

    play(tmp_path, scenario, runtime__loaded_max="2")


def test_busy_functions_stay_even_over_the_bound(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        await parts.deploy("a", b"bytes a")
        running = asyncio.ensure_future(call(parts, "a"))
        await until(lambda: parts.engine.calls)
        await parts.deploy("b", b"bytes b")
        assert set(parts.functions.entries) == {"a", "b"}
        parts.engine.calls[0].end()
        await running

    play(tmp_path, scenario, runtime__loaded_max="1")


def test_concurrency_is_the_manifests_or_follows_the_workers(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        await parts.deploy("one", b"bytes 1", concurrency=1)
        await parts.deploy("any", b"bytes 2")
        limits = {name: entry.admission.limit for name, entry in parts.functions.entries.items()}
        assert limits == {"one": 1, "any": 6}

    play(tmp_path, scenario, workers=3)


def test_bounds_of_a_deploy(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        with pytest.raises(TooLarge, match="wasm_bytes_max"):
            await parts.functions.deploy("f", b"x" * 1025)
        for name in ("../f", "F", "", "a" * 64):
            with pytest.raises(ManifestRefused):
                await parts.functions.deploy(name, b"bytes")
        await parts.deploy("f")
        with pytest.raises(StorageFull, match="functions_max"):
            await parts.deploy("g")
        await parts.deploy("f", b"bytes 2")

    play(tmp_path, scenario, runtime__wasm_bytes_max="1024", runtime__functions_max="1")


def test_known_modules_are_not_described_twice(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        await parts.deploy("f", b"bytes")
        parts.artifacts.code_is_cached = True
        await parts.deploy("g", b"bytes")
        assert len(parts.artifacts.compiled) == 1
        await parts.deploy("h", b"command")  # cached code of a module that no row describes
        assert len(parts.artifacts.compiled) == 2

    play(tmp_path, scenario)


def test_a_missing_module_is_said(tmp_path: Path) -> None:
    async def deploy(parts: Rig) -> None:
        await parts.deploy("f")

    async def scenario(parts: Rig) -> None:
        parts.artifacts.modules.clear()
        with pytest.raises(StoreFailed, match="missing"):
            await call(parts)

    play(tmp_path, deploy)
    play(tmp_path, scenario)


@pytest.mark.parametrize("fault", [StoreFailed("no"), OSError("no")])
def test_leftovers_that_cannot_be_removed_do_no_harm(tmp_path: Path, fault: Exception) -> None:
    async def scenario(parts: Rig) -> None:
        await parts.deploy("f", b"bytes 1")
        parts.artifacts.refuse_collect = fault
        await parts.deploy("f", b"bytes 2")
        await turns()
        assert await call(parts) == b"x"
        assert len(parts.artifacts.modules) == 2

    play(tmp_path, scenario)


def test_nothing_is_collected_while_somebody_deploys(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        await parts.deploy("f", b"bytes 1")
        parts.artifacts.hold = asyncio.Event()
        slow = asyncio.ensure_future(parts.deploy("g", b"bytes g"))
        await turns()
        await until(lambda: len(parts.artifacts.modules) == 2)
        collected = len(parts.artifacts.collected)
        await parts.functions.undeploy("f")
        await turns()
        assert len(parts.artifacts.collected) == collected
        parts.artifacts.hold.set()
        await slow
        await until(lambda: len(parts.artifacts.collected) == collected + 1)
        assert await call(parts, "g") == b"x"
        # A deploy that begins during a collection waits for its end.
        undeployed = asyncio.ensure_future(parts.functions.undeploy("g"))
        await undeployed
        await parts.deploy("h", b"bytes g")
        assert len(parts.artifacts.modules) == 1

    play(tmp_path, scenario)


def test_a_stop_reaches_those_who_wait_for_a_load(tmp_path: Path) -> None:
    async def deploy(parts: Rig) -> None:
        await parts.deploy("f")

    async def scenario(parts: Rig) -> None:
        parts.artifacts.hold = asyncio.Event()
        waits = asyncio.ensure_future(call(parts))
        await turns()
        await parts.invoker.stop()
        with pytest.raises(Unavailable, match="stops"):
            await waits

    play(tmp_path, deploy)
    play(tmp_path, scenario)


def test_a_drain_refuses_changes(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        await parts.deploy("f")
        parts.functions.refuse_changes()
        for ask in (parts.deploy("g"), parts.functions.undeploy("f")):
            with pytest.raises(Unavailable):
                await ask
        assert await call(parts) == b"x"

    play(tmp_path, scenario)


def test_closing_ends_what_is_under_way(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        await parts.deploy("f", b"bytes 1")
        held, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            held.set()
            assert go_on.wait(20)

        parts.engine.before_load = hold
        deploying = asyncio.ensure_future(parts.functions.deploy("g", b"bytes 2"))
        await asyncio.to_thread(held.wait, 20)
        closing = asyncio.ensure_future(parts.functions.close())
        await turns()
        assert not closing.done()  # the engine is still in use on a thread
        go_on.set()
        await closing
        with pytest.raises(asyncio.CancelledError):
            await deploying
        assert parts.engine.functions[0].closed
        for ask in (
            parts.functions.deploy("h", b"bytes"),
            parts.functions.load("f"),
            parts.functions.undeploy("f"),
        ):
            with pytest.raises((Unavailable, Busy)):
                await ask
        assert [row.name for row in await FunctionRows(parts.store).all()] == ["f"]

    play(tmp_path, scenario)


def test_what_peers_brought_makes_room_and_the_one_not_asked_for_longest_goes(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        functions = parts.functions
        await functions.deploy("mine", b"bytes", manifest("mine"))
        await functions.deploy("old", b"bytes", manifest("old"), origin="peer")
        await functions.deploy("asked", b"bytes", manifest("asked"), origin="peer")
        functions.touch("old")
        functions.touch("asked")
        await functions.deploy("new", b"bytes", manifest("new"), origin="peer")
        assert [one.name for one in functions.list()] == ["asked", "mine", "new"]
        await functions.deploy("own", b"bytes", manifest("own"))
        await functions.deploy("two", b"bytes", manifest("two"))
        assert [one.name for one in functions.list()] == ["mine", "own", "two"]
        with pytest.raises(StorageFull, match="functions_max"):
            await functions.deploy("more", b"bytes", manifest("more"))

    play(tmp_path, scenario, runtime__functions_max="3")
