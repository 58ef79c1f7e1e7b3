"""The file of what was learned: when it is written, and what a disk can do to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from edgeagent.accel.kept import Shelf
from edgeagent.model.function import Deployed
from edgeagent.node.accel_keeper import Keeper
from edgeagent.node.accel_routing import Routing
from tests.unit.node.test_accel_routing import NoChance, deployed

MS = {"cpu": 100.0, "gpu": 10.0}


def code(sha256: str, mode: str = "cpu_preferred") -> Deployed:
    return msgspec.structs.replace(deployed(mode), sha256=sha256)


def learn(routing: Routing, one: Deployed, count: int = 60) -> None:
    routes = routing.of(one)
    for number in range(count):
        route = routes.route(float(number), "matmul", 1e9, ready=True)
        routes.served(float(number), "matmul", 1e9, route.backend, MS[route.backend])
        if route.probe is not None:
            plan = route.probe
            routes.probed(float(number), "matmul", 1e9, plan, MS[route.backend], MS[plan.backend])


def on(shelf: Shelf | None = None, device: str = "H") -> Routing:
    routing = Routing(NoChance())
    routing.shelf, routing.device = shelf or Shelf(), lambda: device
    return routing


def first_backend(routing: Routing, one: Deployed) -> str:
    return routing.of(one).route(0.0, "matmul", 1e9, ready=True).backend


def test_a_redeploy_of_the_same_code_goes_on() -> None:
    routing = on()
    learn(routing, code("aa"))
    before = routing.of(code("aa"))
    calls = dict(before.calls)
    assert sum(calls.values()) == 60
    assert before.last == "gpu"
    after = routing.of(code("aa"))
    assert after is not before
    assert (after.calls, after.last, after.why, after.switches) == (calls, "gpu", before.why, 1)
    assert first_backend(routing, code("aa")) == "gpu"
    assert first_backend(routing, code("bb")) == "cpu"
    assert sum(routing.of(code("bb")).calls.values()) == 0
    assert first_backend(routing, code("aa")) == "gpu"  # back to what was before


def test_another_mode_says_what_it_does_and_knows_what_was_learned() -> None:
    routing = on()
    learn(routing, code("aa"))
    routes = routing.of(code("aa", "gpu_preferred"))
    assert routes.why == "mode gpu_preferred"
    assert routes.calls["gpu"] > 0


def test_another_gpu_begins_anew() -> None:
    routing = on()
    learn(routing, code("aa"))
    routing.keep(10)
    unknown = on(routing.shelf, "")  # it is not known yet: the broker is not ready
    assert first_backend(unknown, code("aa")) == "gpu"
    other = on(routing.shelf, "another")
    found = other.find(code("aa"))
    assert found is not None
    assert (found.last, found.why) == ("cpu", "mode cpu_preferred; another GPU: begun anew")
    assert first_backend(other, code("aa")) == "cpu"


def test_what_is_gone_is_learned_but_not_counted() -> None:
    routing = on()
    learn(routing, code("aa"))
    routing.forget("step")
    assert sum(routing.of(code("aa")).calls.values()) == 0
    assert first_backend(routing, code("aa")) == "gpu"


def test_who_has_to_make_room_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeagent.node.accel_routing._FUNCTIONS_MAX", 1)
    routing = on()
    learn(routing, code("aa"))
    routing.of(deployed(name="other"))
    assert first_backend(routing, code("aa")) == "gpu"
    assert not on().keep(10)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def kept_in(path: Path, scenario: Callable[[Keeper, Clock, Routing], Any]) -> list[Any]:
    """What was logged."""

    async def main() -> None:
        clock = Clock()
        keeper = Keeper(path, clock)
        await scenario(keeper, clock, on(keeper.read()))

    with capture_logs() as logs:
        asyncio.run(main())
    return [one["event"] for one in logs if one["log_level"] == "warning"]


async def _looked(keeper: Keeper, routing: Routing) -> None:
    keeper.look(routing)
    if keeper._task is not None:
        await keeper._task


def test_it_is_written_once_a_minute_where_something_is_new(tmp_path: Path) -> None:
    path = tmp_path / "accel.kept"

    async def scenario(keeper: Keeper, clock: Clock, routing: Routing) -> None:
        learn(routing, code("aa"))
        await _looked(keeper, routing)
        assert not path.exists()
        clock.now_s = 61.0
        await _looked(keeper, routing)
        assert path.stat().st_mode & 0o777 == 0o600
        path.unlink()
        clock.now_s = 130.0
        await _looked(keeper, routing)
        await keeper.close(routing)
        assert not path.exists()
        learn(routing, code("aa"), 1)
        await keeper.close(routing)

    assert kept_in(path, scenario) == []
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert first_backend(on(Keeper(path).read()), code("aa")) == "gpu"


def test_a_damaged_file_is_one_line_and_a_new_beginning(tmp_path: Path) -> None:
    path = tmp_path / "accel.kept"
    path.write_bytes(b"edgeagent accel 1\nrubbish")

    async def scenario(keeper: Keeper, _clock: Clock, routing: Routing) -> None:
        assert len(routing.shelf) == 0
        learn(routing, code("aa"))
        await keeper.close(routing)

    assert kept_in(path, scenario) == ["CPU or GPU is learned anew"]
    assert len(Keeper(path).read()) == 1


def test_what_cannot_be_read_or_written_is_said_once_and_the_node_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "accel.kept"
    path.mkdir()
    (path / "in the way").touch()

    async def scenario(keeper: Keeper, clock: Clock, routing: Routing) -> None:
        for number in range(1, 4):
            learn(routing, code("aa"), 1)
            clock.now_s = 100.0 * number
            await _looked(keeper, routing)
        await keeper.close(routing)
        assert sum(routing.of(code("aa")).calls.values()) == 3

    assert kept_in(path, scenario) == [
        "CPU or GPU is learned anew",
        "what was learned of GPUs cannot be kept",
    ]
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    async def scenario(keeper: Keeper, _clock: Clock, routing: Routing) -> None:
        learn(routing, code("aa"), 1)
        await keeper.close(routing)

    assert kept_in(tmp_path / "gone" / "accel.kept", scenario) == ["what was learned of GPUs cannot be kept"]
