"""Local health: bounded both ways, and off where the preset says so."""

from __future__ import annotations

from edgeagent.gossip.health import LocalHealth


def test_it_worsens_to_its_bound_and_improves_to_zero() -> None:
    health = LocalHealth(8)
    health.worsen(3)
    assert (health.score, health.scale) == (3, 4)
    health.worsen(100)
    assert (health.score, health.scale) == (8, 9)
    for _ in range(20):
        health.improve()
    assert (health.score, health.scale) == (0, 1)


def test_a_bound_of_zero_switches_it_off() -> None:
    health = LocalHealth(0)
    health.worsen()
    assert health.scale == 1
