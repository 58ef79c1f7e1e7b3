"""The knobs of the controller, and the few words that it shares with its users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from edgeagent.accel.errors import SettingsRefused

__all__ = ["BACKENDS", "Backend", "Chance", "ControllerSettings", "Mode", "Probe", "first_of", "other_of"]

Backend = Literal["cpu", "gpu"]
BACKENDS: tuple[Backend, Backend] = ("cpu", "gpu")
Mode = Literal["cpu", "cpu_preferred", "gpu_preferred", "gpu"]
Probe = Literal["shadow", "serve"]


class Chance(Protocol):
    """The one thing asked of a generator (``random.Random`` has it): a float in [0, 1)."""

    def random(self) -> float: ...


def other_of(backend: Backend) -> Backend:
    """The backend that it is not."""
    return "gpu" if backend == "cpu" else "cpu"


def first_of(mode: Mode) -> Backend:
    """The backend that serves before anything was seen."""
    return "gpu" if mode in ("gpu", "gpu_preferred") else "cpu"


@dataclass(frozen=True, kw_only=True)
class ControllerSettings:
    """Choices of ours, tuned on generated traces (tests/unit/accel), not measured on hardware.

    A change to the GPU needs a gain of ``gain_min`` (of the latency's logarithm) and ``confidence_gpu`` standard errors
    of it, one to the CPU ``gain_back_min`` and ``confidence``; each change of the last ``memory`` requests of its class
    asks for ``confidence_step`` more, and ``dwell`` requests (doubled by each) must have passed. A change needs
    ``samples_min`` of either backend, or one where something was known before.

    Looks for a change take about ``gpu_share`` of the seconds that requests took on the CPU (what more: ``probing``,
    ``purse``), and ``cpu_share`` of those on the GPU; in the learning phase ``probes_first`` of each class are free of
    that. Where probes answer, the CPU is asked every ``cpu_every`` requests. ``probe``: "shadow" asks both and answers
    with the one that serves, "serve" lets the probed one answer (for what must not run twice); those may lose
    ``serve_loss_share`` of the latency.
    """

    gain_min: float = 0.08
    gain_back_min: float = 0.03
    confidence: float = 1.8
    confidence_gpu: float = 2.2
    confidence_step: float = 0.6
    memory: int = 400
    dwell: int = 6
    samples_min: int = 2
    gpu_share: float = 0.0095
    cpu_share: float = 0.35
    probes_first: int = 2
    cpu_every: int = 20
    probe: Probe = "shadow"
    serve_loss_share: float = 0.02
    classes_max: int = 40

    def __post_init__(self) -> None:
        if min(self.memory, self.dwell, self.samples_min, self.probes_first, self.cpu_every) < 1:
            raise SettingsRefused("a count of the controller is not positive", hint="give 1 or more")
        shares = (
            self.gain_min,
            self.gain_back_min,
            self.gpu_share,
            self.cpu_share,
            self.serve_loss_share,
        )
        if not all(0.0 <= share < 1.0 for share in shares):
            raise SettingsRefused("a share of the controller is not one", hint="give 0 or more, below 1")
        if min(self.confidence, self.confidence_gpu, self.confidence_step) < 0.0 or self.classes_max < 1:
            raise SettingsRefused("a bound of the controller is negative", hint="give 0 or more")
