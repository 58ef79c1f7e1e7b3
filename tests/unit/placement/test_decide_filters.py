"""Each filter removes whom it should, says so with its numbers, and is named where it leaves nobody."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from edgeagent.model.gpu import GpuState
from edgeagent.placement.body import Body
from edgeagent.placement.decide import Decision, decide
from edgeagent.placement.errors import NoFeasibleNode
from edgeagent.placement.network import FlatNetwork, Network
from edgeagent.placement.views import NodeLoad, NodeView, StepAsk
from tests.unit.placement.world import Scripted, explanation, views

IDS = ("a", "b", "c")
COOL = Body(temperature_c_max=60.0, heat_tau_s=600.0)  # 47.5 C in shade, 57.5 C in sun with all cores busy
SATELLITE = Body(battery_wh=40.0, battery_reserve=0.3, solar_w=20.0)


def _decide(
    ask: StepAsk, nodes: list[NodeView], network: Network | None = None, *, speed: float = 1.0
) -> Decision:
    return decide(
        [ask],
        nodes,
        FlatNetwork(IDS, 5.0) if network is None else network,
        here="a",
        now_s=1000.0,
        orbital_speed=speed,
        chance=random.Random(1),
    )


# (what removes b, fields of b, fields of the step, part of the detail)
NODE_CASES: list[tuple[str, dict[str, object], dict[str, Any], str]] = [
    ("excluded", {"excluded": "refused: memory"}, {}, "refused: memory"),
    ("trust", {"trusted": False}, {}, "not trusted"),
    ("architecture", {"architecture": "amd64"}, {"needs": ("arch:arm64",)}, "aarch64 needed, it is amd64"),
    ("kind", {"kind": "cloud"}, {"needs": ("kind:satellite",)}, "satellite needed, it is cloud"),
    ("gpu", {"gpu": ""}, {"needs": ("gpu",)}, "no GPU"),
    ("gpu", {"load": NodeLoad(gpu_state=GpuState.LOST)}, {"needs": ("gpu",)}, "its GPU is lost"),
    ("gpu", {"load": NodeLoad(gpu_state=GpuState.DRAINING)}, {"needs": ("gpu",)}, "its GPU is draining"),
    (
        "gpu",
        {"load": NodeLoad(gpu_state=GpuState.THROTTLED, gpu_temperature_c=93.0)},
        {"needs": ("gpu",)},
        "its GPU has 93 C, at most 90 C",
    ),
    ("label", {"labels": ("infrared",)}, {"needs": ("camera",)}, "no label 'camera'"),
    ("memory", {"memory_bytes": 2**20}, {"memory_bytes": 2**21}, "2097152 bytes needed, 1048576 free"),
    (
        "memory",
        {"load": NodeLoad(memory_free_bytes=7, age_s=1.0)},
        {"memory_bytes": 8},
        "8 bytes needed, 7 free",
    ),
    ("thermal", {"body": COOL, "load": NodeLoad(temperature_c=61.0)}, {}, "up to 61.0 C, at most 60 C"),
    ("battery", {"body": SATELLITE, "load": NodeLoad(battery=0.35)}, {}, "30% are kept"),
]
ALL_FIT: dict[str, object] = {
    "architecture": "aarch64",
    "kind": "satellite",
    "gpu": "some",
    "labels": ("camera",),
}


@pytest.mark.parametrize(("name", "fields", "asked", "detail"), NODE_CASES)
def test_a_node_that_does_not_fit_is_removed(
    name: str, fields: dict[str, object], asked: dict[str, Any], detail: str
) -> None:
    nodes = views(IDS, a=ALL_FIT, b={**ALL_FIT, **fields}, c=ALL_FIT)
    found = explanation(_decide(StepAsk(name="s", **asked), nodes))
    assert [one.removed_by for one in found.values()] == ["", name, ""]
    assert detail in found["b"].detail
    assert found["b"].score_ms is None


@pytest.mark.parametrize(("name", "fields", "asked", "detail"), NODE_CASES)
def test_the_filter_that_leaves_nobody_is_named(
    name: str, fields: dict[str, object], asked: dict[str, Any], detail: str
) -> None:
    misfit = {**ALL_FIT, **fields}
    with pytest.raises(NoFeasibleNode) as refused:
        _decide(StepAsk(name="s", **asked), views(IDS, a=misfit, b=misfit, c=misfit))
    assert refused.value.details["constraint"] == name
    assert refused.value.details["step"] == "s"
    assert refused.value.details["removed"] == {name: 3}
    assert detail in refused.value.message
    assert refused.value.hint


def test_the_binding_filter_is_the_one_without_which_a_node_is_left() -> None:
    nodes = views(IDS, a={"trusted": False}, b={"trusted": False, "excluded": "dead"}, c={"excluded": "dead"})
    with pytest.raises(NoFeasibleNode) as refused:
        _decide(StepAsk(name="s", needs=("kind:satellite",)), nodes)
    # Nothing alone helps: all three are no satellites, so that is what removed most behind the others ...
    assert refused.value.details["removed"] == {"excluded": 2, "trust": 1}
    nodes = views(IDS, a={"trusted": False, "gpu": "x"}, b={"excluded": "dead"}, c={"excluded": "dead"})
    with pytest.raises(NoFeasibleNode) as refused:
        _decide(StepAsk(name="s", needs=("gpu",)), nodes)
    # ... but here the untrusted node would do.
    assert refused.value.details["constraint"] == "trust"


def test_aliases_of_architectures_are_one() -> None:
    nodes = views(
        IDS, a={"architecture": "arm64"}, b={"architecture": "aarch64"}, c={"architecture": "x86_64"}
    )
    found = explanation(_decide(StepAsk(name="s", needs=("arch:arm64",)), nodes))
    assert [one.removed_by for one in found.values()] == ["", "", "architecture"]


def test_stale_free_memory_does_not_count() -> None:
    nodes = views(IDS, b={"load": NodeLoad(memory_free_bytes=7, age_s=60.0)})
    assert not explanation(_decide(StepAsk(name="s", memory_bytes=8), nodes))["b"].removed_by


def test_a_need_of_a_node_and_a_pin_take_that_node() -> None:
    for ask in (StepAsk(name="s", needs=("node:c",)), StepAsk(name="s", pinned="c")):
        assert _decide(ask, views(IDS)).choices[0].node == "c"


def test_what_the_pinned_node_fails_binds() -> None:
    with pytest.raises(NoFeasibleNode) as refused:
        _decide(StepAsk(name="s", pinned="c", memory_bytes=2**31), views(IDS))
    assert refused.value.details["constraint"] == "memory"
    with pytest.raises(NoFeasibleNode) as refused:
        _decide(StepAsk(name="s", pinned="z"), views(IDS))
    assert refused.value.details["constraint"] == "pinned"


def _line(at_s: float) -> dict[tuple[str, str], float]:
    """A - b - c, of which the second link is 100 ms long from 1060 s on and gone from 1300 s on."""
    links = {("a", "b"): 5.0}
    if at_s < 1300.0:
        links["b", "c"] = 5.0 if at_s < 1060.0 else 100.0
    return links


def test_latency_of_the_edge_holds_at_the_start() -> None:
    network = Scripted(IDS, _line)
    found = explanation(_decide(StepAsk(name="s", latency_ms_max=7.0), views(IDS), network))
    assert [one.removed_by for one in found.values()] == ["", "", "latency"]
    assert found["c"].detail == "10.0 ms from a, at most 7"


def test_without_a_route_there_is_no_way() -> None:
    network = Scripted(IDS, lambda at_s: {("a", "b"): 1.0})
    found = explanation(_decide(StepAsk(name="s"), views(IDS), network))
    assert found["c"].removed_by == "route"
    assert found["c"].detail == "no route from a at that time"


def test_bandwidth_of_the_edge() -> None:
    network = Scripted(IDS, _line, rates={("a", "c"): 3.0})
    found = explanation(_decide(StepAsk(name="s", mbit_s_min=10.0), views(IDS), network))
    assert [one.removed_by for one in found.values()] == ["", "", "bandwidth"]
    assert found["c"].detail == "3.0 Mbit/s, at least 10"


@pytest.mark.parametrize(
    ("exec_ms", "removed"), [(1000.0, ["", "", ""]), (120_000.0, ["data-latency", "data-latency", ""])]
)
def test_the_data_source_is_near_for_as_long_as_the_step_runs(exec_ms: float, removed: list[str]) -> None:
    ask = StepAsk(name="s", data_source="c", data_latency_ms_max=50.0, exec_ms=exec_ms, exec_known=True)
    found = explanation(_decide(ask, views(IDS), Scripted(IDS, _line)))
    assert [one.removed_by for one in found.values()] == removed


def test_a_time_that_is_not_known_is_checked_for_longer() -> None:
    ask = StepAsk(
        name="s", data_source="c", data_latency_ms_max=50.0, exec_ms=12_000.0, wall_ms=1e6, exec_known=False
    )
    found = explanation(_decide(ask, views(IDS), Scripted(IDS, _line)))
    assert found["a"].removed_by == "data-latency"


def test_orbital_time_goes_faster_than_the_execution() -> None:
    ask = StepAsk(name="s", data_source="c", data_latency_ms_max=50.0, exec_ms=2000.0, exec_known=True)
    slow = explanation(_decide(ask, views(IDS), Scripted(IDS, _line)))
    fast = explanation(_decide(ask, views(IDS), Scripted(IDS, _line), speed=60.0))
    assert (slow["a"].removed_by, fast["a"].removed_by) == ("", "data-latency")


def test_bandwidth_of_the_data_source() -> None:
    network = Scripted(IDS, _line, rates={("a", "c"): 3.0})
    ask = StepAsk(name="s", data_source="c", data_mbit_s_min=10.0)
    found = explanation(_decide(ask, views(IDS), network))
    assert [one.removed_by for one in found.values()] == ["data-bandwidth", "", ""]


def test_a_data_source_that_is_not_known_is_named() -> None:
    with pytest.raises(NoFeasibleNode) as refused:
        _decide(StepAsk(name="s", data_source="eo-9"), views(IDS))
    assert refused.value.details["constraint"] == "data-source"
    assert "eo-9" in refused.value.message


def test_a_long_step_gets_too_warm_and_a_short_one_does_not() -> None:
    warm = Body(temperature_c_max=50.0, heat_tau_s=100.0)
    nodes = views(IDS, b={"body": warm, "cores": 1, "load": NodeLoad(temperature_c=45.0, cpu=0.0)})
    short = explanation(_decide(StepAsk(name="s", exec_ms=100.0, exec_known=True), nodes))
    long = explanation(_decide(StepAsk(name="s", exec_ms=300_000.0, exec_known=True), nodes))
    assert (short["b"].removed_by, long["b"].removed_by) == ("", "thermal")


def test_in_the_shade_it_stays_cooler() -> None:
    warm = Body(temperature_c_max=50.0, heat_tau_s=100.0)  # 52.5 C in the sun in the end, 42.5 C in the shade
    nodes = views(IDS, b={"body": warm, "cores": 1, "load": NodeLoad(temperature_c=40.0, cpu=0.0)})
    ask = StepAsk(name="s", exec_ms=1e6, exec_known=True)
    shade = Scripted(IDS, _line, light=lambda row, begin, end: 0.0)
    assert explanation(_decide(ask, nodes, shade))["b"].removed_by == ""
    sun = Scripted(IDS, _line, light=lambda row, begin, end: 1.0)
    assert explanation(_decide(ask, nodes, sun))["b"].removed_by == "thermal"


def test_the_reserve_lasts_through_the_eclipse_ahead() -> None:
    nodes = views(IDS, b={"body": SATELLITE, "load": NodeLoad(battery=0.4)})
    ask = StepAsk(name="s", exec_ms=1000.0, exec_known=True)

    def eclipse(row: int, begin: float, end: float) -> float:
        return 0.0 if 1200.0 <= begin < 1200.0 + dark_s else 1.0

    found = {}
    for dark_s in (600.0, 4800.0):
        found[dark_s] = explanation(_decide(ask, nodes, Scripted(IDS, _line, light=eclipse)))["b"]
    assert (found[600.0].removed_by, found[4800.0].removed_by) == ("", "battery")
    # 5 W for 4,800 s are 6.7 Wh of 40; the sun before fills it to 43 %.
    assert "down to 25." in found[4800.0].detail or "down to 26." in found[4800.0].detail


def test_what_a_node_says_of_the_sun_counts_where_nothing_is_predicted() -> None:
    lit = {"body": SATELLITE, "load": NodeLoad(battery=0.35, sunlit=True)}
    dark = {"body": SATELLITE, "load": NodeLoad(battery=0.35, sunlit=False)}
    found = explanation(_decide(StepAsk(name="s"), views(IDS, b=lit, c=dark)))
    assert [one.removed_by for one in found.values()] == ["", "", "battery"]


def test_the_result_has_a_way_back_when_the_step_ends() -> None:
    ask = StepAsk(name="s", returns_to="c", exec_ms=400_000.0, exec_known=True)
    found = explanation(_decide(ask, views(IDS), Scripted(IDS, _line)))
    assert [one.removed_by for one in found.values()] == ["contact", "contact", ""]
    assert found["a"].detail == "no route to c when the step ends"


def test_the_way_back_lasts_until_the_result_is_there() -> None:
    network = Scripted(IDS, _line, until_s={("b", "a"): 1001.0})
    ask = StepAsk(name="s", returns_to="a", exec_ms=2000.0, exec_known=True)
    found = explanation(_decide(ask, views(IDS), network))
    assert [one.removed_by for one in found.values()] == ["", "contact", ""]
    assert found["b"].detail == "the route to a ends 1.0 s before the result is back"


def test_nobody_is_lost_to_a_cap() -> None:
    ids = tuple(f"n{row}" for row in range(300))
    fields: dict[str, dict[str, object]] = {name: {"trusted": False} for name in ids[:-1]}
    nodes = views(ids, **fields)
    decision = decide(
        [StepAsk(name="s")], nodes, FlatNetwork(ids), here="n0", now_s=0.0, chance=random.Random(1)
    )
    assert decision.choices[0].node == "n299"
    assert "the only one of 300 nodes" in decision.choices[0].why
    assert math.isfinite(decision.total_ms)
