"""Ours and its rivals over one pair of traces: the static choices, and Gaia's rules."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from edgeagent.accel.controller import Controller
from edgeagent.accel.figures import Figures, figures, learning_of
from edgeagent.accel.goal import Goal
from edgeagent.accel.oracle import failure_ms, oracle_choices
from edgeagent.accel.replay import Chooser, Fixed, Ours, ReplayOptions, play
from edgeagent.accel.settings import ControllerSettings, Probe
from edgeagent.accel.traces import Traces
from edgeagent.bench.accel_gaia import GaiaRules

__all__ = ["RIVALS", "contest", "our_chooser"]

RIVALS = ("static-cpu", "static-gpu", "gaia-rules")


def our_chooser(options: ReplayOptions, probe: Probe = "shadow") -> Ours:
    """The controller as a node would make it for a function of unknown mode, with latency as its goal."""
    goal = Goal(slo_ms=options.slo_ms, cpu_usd_s=options.cpu_usd_s, gpu_usd_s=options.gpu_usd_s)
    settings = ControllerSettings(probe=probe)
    return Ours(Controller(settings, random.Random(options.seed), goal=goal))


def contest(traces: Traces, options: ReplayOptions, probe: Probe = "shadow") -> Mapping[str, Figures]:
    """The figures of "ours" and of each rival, all against the same oracle.

    Its GPU is always there; for ``regret_ready_pct`` it has to start as the others', and the CPU serves meanwhile.
    """
    choosers: dict[str, Chooser] = {
        "ours": our_chooser(options, probe),
        "static-cpu": Fixed(["cpu"] * len(traces), reruns=False),
        "static-gpu": Fixed(["gpu"] * len(traces), reruns=False),
        "gaia-rules": GaiaRules(options),
    }
    choices = oracle_choices(traces, options.slo_ms, learning_of(len(traces)))
    oracle = play(traces, Fixed(choices, reruns=True), replace(options, gpu_cold_s=0.0))
    ready = play(traces, Fixed(choices, reruns=True, waits=False), options)
    lost_ms = failure_ms(traces, options.slo_ms)
    return {
        name: figures(play(traces, chooser, options), oracle, options, lost_ms, ready)
        for name, chooser in choosers.items()
    }
