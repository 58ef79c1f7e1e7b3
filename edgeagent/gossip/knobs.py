"""Every number of the protocol, with what it means, how it enters and what it trades. Times are seconds.

``n`` is how many members are alive or suspect, ``h`` the local health score (0 is healthy). The notes are data: the
table in docs/gossip.md is made from them, and a test holds both equal.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from edgeagent.gossip.errors import KnobsRefused

__all__ = ["KNOB_NOTES", "KnobNote", "Knobs"]


class Knobs(msgspec.Struct, frozen=True, kw_only=True):
    """One preset's numbers; KNOB_NOTES says what each one is. Construction raises KnobsRefused."""

    probe_interval_s: float
    probe_timeout_s: float
    indirect_probes: int
    nacks: bool = True
    health_max: int = 8
    lag_tolerance_s: float
    suspicion_mult: float
    suspicion_max_mult: float = 6.0
    confirmations: int = 3
    buddy: bool = True
    gossip_interval_s: float
    gossip_nodes: int
    retransmit_mult: int = 4
    push_pull_interval_s: float
    reconnect_interval_s: float
    verify_interval_s: float
    tombstone_s: float = 86400.0
    load_interval_s: float
    load_hops: int
    load_forward_interval_s: float
    neighbours_max: int
    occlusion_margin_s: float
    occlusion_recheck_s: float
    occlusion_unknown_max_s: float = 86400.0
    stream_timeout_s: float
    members_max: int
    rumours_max: int = 8192

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            low = 0.0 if name in _MAY_BE_ZERO else 1e-3
            if not low <= value <= 1e9:
                raise KnobsRefused(f"{name} is {value!r}, not from {low:g} to 1e9", hint="correct it")
        if self.probe_timeout_s > self.probe_interval_s:
            raise KnobsRefused(
                f"probe_timeout_s {self.probe_timeout_s} is longer than probe_interval_s {self.probe_interval_s}",
                hint="a probe's direct and indirect halves must both fit into the interval",
            )
        if self.suspicion_max_mult < 1.0:
            raise KnobsRefused(
                f"suspicion_max_mult is {self.suspicion_max_mult}, below 1", hint="1 is static"
            )


_MAY_BE_ZERO = frozenset(
    {
        "buddy",
        "confirmations",
        "health_max",
        "indirect_probes",
        "lag_tolerance_s",
        "load_hops",
        "nacks",
        "occlusion_margin_s",
    }
)


class KnobNote(NamedTuple):
    """What a knob enters into, and what more of it buys and costs."""

    formula: str
    trade: str


KNOB_NOTES: dict[str, KnobNote] = {
    "probe_interval_s": KnobNote(
        "one probe every probe_interval * (h + 1); a crash is first noticed after e/(e-1) = 1.58 intervals in the mean",
        "longer: fewer bytes, later detection",
    ),
    "probe_timeout_s": KnobNote(
        "helpers are asked after probe_timeout * (h + 1); the probe fails at the interval's end",
        "above the 99th percentile of the round trip, or helpers are asked in vain",
    ),
    "indirect_probes": KnobNote(
        "helpers asked; with loss p a live member fails with about p2 * p4^k (p2, p4: loss over 2 and 4 datagrams)",
        "more: fewer false suspicions, 4 datagrams each on a failed probe",
    ),
    "nacks": KnobNote(
        "a helper says after 0.8 probe_timeout that it has no answer yet (Lifeguard)",
        "on: a member with silent helpers learns that it is itself cut off or slow; 1 datagram each",
    ),
    "health_max": KnobNote(
        "0 <= h <= health_max; probe interval and time-out times (h + 1) (Lifeguard)",
        "higher: fewer false accusations by slow members, which notice others' deaths later; 0 switches it off",
    ),
    "lag_tolerance_s": KnobNote(
        "a timer later than this counts as our own stall: h + 1, all deadlines move by the delay; 0 switches it off",
        "shorter: more stalls are excused, and noise counts as stalls",
    ),
    "suspicion_mult": KnobNote(
        "min = suspicion_mult * max(1, log10(n)) * probe_interval",
        "higher: more time to refute, later detection",
    ),
    "suspicion_max_mult": KnobNote(
        "max = suspicion_max_mult * min; the time-out falls from max to min with the accusers (Lifeguard)",
        "higher: a slow member that hears no second accuser waits longer; 1 is SWIM's static time-out",
    ),
    "confirmations": KnobNote(
        "k; timeout(c) = max(min, max - (max - min) * log(c + 1) / log(k + 1))",
        "more: more accusers are needed for the short time-out",
    ),
    "buddy": KnobNote(
        "whoever is suspected is told first, in every datagram to it (Lifeguard), and probed again before its death",
        "on: refutation within one round trip; about 60 bytes in datagrams to suspects",
    ),
    "gossip_interval_s": KnobNote(
        "while there are rumours, one batch every gossip_interval to gossip_nodes members",
        "shorter: news is everywhere in about log(n) / log(gossip_nodes + 1) intervals; more datagrams",
    ),
    "gossip_nodes": KnobNote("how many members get each batch", "more: faster and more redundant"),
    "retransmit_mult": KnobNote(
        "each rumour is told retransmit_mult * ceil(log10(n + 1)) times by each member",
        "more: fewer members left to anti-entropy; bytes in proportion",
    ),
    "push_pull_interval_s": KnobNote(
        "anti-entropy every push_pull_interval * (1 + max(0, ceil(log2(n / 32))))",
        "shorter: what rumours missed is repaired sooner; about 2 KB and the differences each",
    ),
    "reconnect_interval_s": KnobNote(
        "one random dead member is probed every reconnect_interval",
        "shorter: partitions heal sooner; 1 datagram each",
    ),
    "verify_interval_s": KnobNote(
        "members told dead elsewhere but alive here are probed at this pace",
        "shorter: views agree sooner after a partition, in a larger burst",
    ),
    "tombstone_s": KnobNote(
        "the dead and the departed are forgotten after this",
        "longer: no ghosts come back from old copies; memory",
    ),
    "load_interval_s": KnobNote(
        "load is pushed to neighbours at once, then at most every load_interval",
        "the bound of a load's age there, and of its bytes",
    ),
    "load_hops": KnobNote(
        "how far load travels from its owner, in neighbours; 0 switches it off",
        "more: placement sees farther; a neighbour's neighbours' load is forwarded",
    ),
    "load_forward_interval_s": KnobNote(
        "others' load is collected this long, then passed on in one datagram a neighbour",
        "longer: older load two hops away, fewer bytes",
    ),
    "neighbours_max": KnobNote(
        "how many neighbours get load; where the shell names none, the next names in order",
        "more: load is known to more; bytes in proportion",
    ),
    "occlusion_margin_s": KnobNote(
        "a contact counts only if it holds this long before and after; a returning member is probed this late",
        "longer: errors of plan and clock are forgiven; edges of contacts go unused for judging",
    ),
    "occlusion_recheck_s": KnobNote(
        "a member without a computed return is looked up again after this", "longer: less computing"
    ),
    "occlusion_unknown_max_s": KnobNote(
        "a member whose return the plan cannot name becomes suspect after this",
        "longer: old elements are forgiven; the truly lost are kept longer",
    ),
    "stream_timeout_s": KnobNote(
        "an exchange silent for this long is given up", "longer: slow links; held memory"
    ),
    "members_max": KnobNote(
        "the table's bound, tombstones included; unverified names get a quarter of it at most",
        "about 2 KB each; when full, tombstones and unverified names go first, then newcomers are refused",
    ),
    "rumours_max": KnobNote("rumours waiting to be told", "beyond it the most told go; anti-entropy repairs"),
}
