"""``[accel]`` of a configuration."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from edgeagent.node.config_section import DAY_MS, GIB, HOUR_MS, MIB, Section

__all__ = ["AccelSection"]


class AccelSection(Section, frozen=True):
    """GPUs for the kernels that functions call; docs/gpu.md explains."""

    enabled: Annotated[
        Literal["auto", "never"],
        Meta(
            description="auto: what GPUs there are, started when a function could use one; never: the CPU alone"
        ),
    ] = "auto"
    gpus_max: Annotated[int, Meta(ge=1, le=16, description="GPUs used at once, the first ones")] = 8
    arena_bytes: Annotated[
        int,
        Meta(
            ge=MIB,
            le=64 * GIB,
            description="memory shared with the broker of a GPU, for operands on their way; larger calls stay on "
            "the CPU; pages are taken as they are used",
        ),
    ] = 256 * MIB
    queue_max: Annotated[
        int, Meta(ge=1, le=10_000, description="calls that wait for a GPU; more run on the CPU")
    ] = 64
    deadline_ms: Annotated[
        int,
        Meta(ge=10, le=HOUR_MS, description="a kernel that runs longer has hung: its broker is killed"),
    ] = 30_000
    start_timeout_ms: Annotated[
        int, Meta(ge=100, le=HOUR_MS, description="from the start of a broker to its passed self-test")
    ] = 60_000
    idle_ms: Annotated[
        int, Meta(ge=100, le=DAY_MS, description="a broker that nobody needed for so long is ended")
    ] = 600_000
