"""Every scenario with 20 seeds: a failing one prints the line that replays it. ``make sim`` plays many more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edgeagent.simulator import gossip_scenarios, many_seeds
from edgeagent.simulator.gossip_checks import PropertyBroken
from edgeagent.simulator.gossip_scenarios import SCENARIOS, Scenario, main, replay_line, run_scenario
from edgeagent.simulator.gossip_world import GossipWorld

SEEDS = int(os.environ.get("EDGEAGENT_SIM_SEEDS", "20"))


@pytest.mark.parametrize("name", SCENARIOS)
def test_all_properties_hold(name: str) -> None:
    for seed in range(SEEDS):
        run_scenario(name, seed)


@pytest.mark.parametrize("name", ["chaos", "occlusion-crash", "restart-without-state"])
def test_a_seed_tells_the_same_story_again_in_another_process(name: str) -> None:
    here = run_scenario(name, 7)
    again = subprocess.run(
        [sys.executable, "-m", "edgeagent.simulator.gossip_scenarios", "--scenario", name, "--seed", "7"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        timeout=60,
    )
    assert f"digest {here}" in again.stdout
    assert run_scenario(name, 8) != here


def _breaks(world: GossipWorld) -> None:
    world.start_all()
    world.run(5.0)
    raise PropertyBroken("P0 nothing is ever good enough")


def _crashes(_world: GossipWorld) -> None:
    raise ZeroDivisionError("a fault in the core")


def test_a_broken_property_names_its_seed_and_the_line_that_replays_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SCENARIOS, "loss", Scenario(_breaks))
    with pytest.raises(PropertyBroken, match="loss, seed 3: P0 nothing") as broken:
        run_scenario("loss", 3)
    line = replay_line("loss", 3)
    assert str(broken.value).endswith(f"replay: {line}")
    # The line itself does what it says.
    arguments = line.split("gossip_scenarios ")[1].split()
    assert main(arguments) == 1
    told = capsys.readouterr().out
    assert "start" in told or "alive" in told
    assert "P0 nothing is ever good enough" in told


def test_many_seeds_writes_a_summary_and_names_what_broke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sim.json"
    arguments = [
        "--seeds",
        "2",
        "--scenario",
        "leave",
        "--scenario",
        "crash",
        "--jobs",
        "1",
        "--out",
        str(out),
    ]
    assert many_seeds.main(arguments) == 0
    assert "2 seeds of 2 scenarios, 0 broken" in capsys.readouterr().out
    document = msgspec.json.decode(out.read_bytes())
    assert document["plays"] == 4
    assert document["scenarios"]["crash"]["seeds"] == 2

    monkeypatch.setitem(gossip_scenarios.SCENARIOS, "leave", Scenario(_breaks))
    monkeypatch.setitem(gossip_scenarios.SCENARIOS, "crash", Scenario(_crashes))
    outcomes = [many_seeds.play(("leave", 1)), many_seeds.play(("crash", 1))]
    assert "P0 nothing" in outcomes[0].broken
    assert "ZeroDivisionError: a fault in the core" in outcomes[1].broken
    assert many_seeds.summary(outcomes, 1.0, "today")["broken"] == 2
