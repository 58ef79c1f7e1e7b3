"""The presets: ``local`` (one machine), ``lan``, ``wan``, ``orbit``. What each knob does: :mod:`knobs`.

``swim`` is the comparison: the same numbers without Lifeguard (static suspicion, no local health, no nacks, no buddy,
no excuse for late timers), as in the original SWIM.
"""

from __future__ import annotations

import msgspec

from edgeagent.gossip.errors import KnobsRefused
from edgeagent.gossip.knobs import Knobs

__all__ = ["PRESETS", "preset", "without_lifeguard"]

_LAN = Knobs(
    probe_interval_s=1.0,
    probe_timeout_s=0.5,
    indirect_probes=3,
    lag_tolerance_s=0.25,
    suspicion_mult=3.0,
    gossip_interval_s=0.2,
    gossip_nodes=3,
    push_pull_interval_s=30.0,
    reconnect_interval_s=5.0,
    verify_interval_s=0.02,
    load_interval_s=0.5,
    load_hops=1,
    load_forward_interval_s=1.0,
    neighbours_max=8,
    occlusion_margin_s=1.0,
    occlusion_recheck_s=60.0,
    stream_timeout_s=10.0,
    members_max=16384,
)

PRESETS: dict[str, Knobs] = {
    # Many daemons on one machine: no wire, so everything may be quick.
    "local": msgspec.structs.replace(
        _LAN,
        probe_interval_s=0.2,
        probe_timeout_s=0.1,
        indirect_probes=2,
        lag_tolerance_s=0.1,
        gossip_interval_s=0.05,
        push_pull_interval_s=10.0,
        reconnect_interval_s=1.0,
        load_interval_s=0.2,
        stream_timeout_s=5.0,
        members_max=1024,
    ),
    # One site: round trips of milliseconds, almost no loss.
    "lan": _LAN,
    # Sites over the Internet: round trips up to a second, loss of some per cent.
    "wan": msgspec.structs.replace(
        _LAN,
        probe_interval_s=5.0,
        probe_timeout_s=2.0,
        lag_tolerance_s=0.5,
        suspicion_mult=4.0,
        gossip_interval_s=0.5,
        gossip_nodes=4,
        push_pull_interval_s=60.0,
        reconnect_interval_s=15.0,
        load_interval_s=0.9,
        load_forward_interval_s=5.0,
        occlusion_margin_s=2.0,
        stream_timeout_s=30.0,
        members_max=32768,
    ),
    # Satellites and their ground: paths of 5 to 300 ms that come and go by plan, and every byte counts.
    "orbit": msgspec.structs.replace(
        _LAN,
        probe_interval_s=5.0,
        probe_timeout_s=1.5,
        lag_tolerance_s=0.5,
        suspicion_mult=4.0,
        gossip_interval_s=1.0,
        gossip_nodes=3,
        retransmit_mult=3,
        push_pull_interval_s=60.0,
        reconnect_interval_s=30.0,
        verify_interval_s=0.1,
        load_interval_s=0.9,
        load_hops=2,
        load_forward_interval_s=5.0,
        neighbours_max=6,
        occlusion_margin_s=5.0,
        stream_timeout_s=30.0,
        members_max=32768,
    ),
}


def preset(name: str) -> Knobs:
    """The knobs of a preset. Raises KnobsRefused for names that do not exist."""
    try:
        return PRESETS[name]
    except KeyError:
        raise KnobsRefused(f"no gossip preset {name!r:.40}", hint=f"there are {', '.join(PRESETS)}") from None


def without_lifeguard(knobs: Knobs) -> Knobs:
    """The same numbers as plain SWIM: what Lifeguard is compared with."""
    return msgspec.structs.replace(
        knobs,
        nacks=False,
        health_max=0,
        lag_tolerance_s=0.0,
        suspicion_max_mult=1.0,
        confirmations=0,
        buddy=False,
    )
