"""Presets and their notes."""

from __future__ import annotations

import msgspec
import pytest

from edgeagent.gossip.errors import KnobsRefused
from edgeagent.gossip.knobs import KNOB_NOTES, Knobs
from edgeagent.gossip.presets import PRESETS, preset, without_lifeguard


def test_every_knob_is_explained_and_nothing_else() -> None:
    assert list(KNOB_NOTES) == list(Knobs.__struct_fields__)
    assert all(note.formula and note.trade for note in KNOB_NOTES.values())


def test_the_presets_are_those_of_the_contract() -> None:
    assert set(PRESETS) == {"local", "lan", "wan", "orbit"}
    with pytest.raises(KnobsRefused, match="no gossip preset 'moon'"):
        preset("moon")


@pytest.mark.parametrize(
    "changed",
    [
        {"probe_interval_s": 0.0},
        {"probe_timeout_s": 2.0},
        {"suspicion_max_mult": 0.5},
        {"members_max": 0},
        {"gossip_interval_s": float("nan")},
        {"retransmit_mult": -1},
    ],
)
def test_impossible_numbers_are_refused(changed: dict[str, float]) -> None:
    with pytest.raises(KnobsRefused):
        msgspec.structs.replace(preset("lan"), **changed)


def test_plain_swim_differs_in_lifeguards_knobs_alone() -> None:
    lan, swim = preset("lan"), without_lifeguard(preset("lan"))
    differing = {name for name in Knobs.__struct_fields__ if getattr(lan, name) != getattr(swim, name)}
    assert differing == {
        "buddy",
        "confirmations",
        "health_max",
        "lag_tolerance_s",
        "nacks",
        "suspicion_max_mult",
    }
