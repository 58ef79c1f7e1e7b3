"""``[energy]`` of a configuration."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from edgeagent.node.config_section import Section

__all__ = ["EnergySection"]


class EnergySection(Section, frozen=True):
    """What energy is drawn and costs; docs/energy.md explains. A core's draw is placement.busy_w less idle_w."""

    gpu_w: Annotated[
        int,
        Meta(
            ge=0,
            le=5_000,
            description="what a busy GPU draws more than an idle one; 0: as its sensors say, else by placement.kind",
        ),
    ] = 0
    usd_per_mwh: Annotated[
        int,
        Meta(
            ge=-1,
            le=100_000_000,
            description="US dollars for a megawatt-hour as it comes, from the mains or from panels in the sun; "
            "-1: by placement.kind",
        ),
    ] = -1
    battery_usd_per_mwh: Annotated[
        int,
        Meta(
            ge=-1,
            le=100_000_000,
            description="and for one out of the battery, its losses and its wear included; -1: by usd_per_mwh and "
            "placement.kind",
        ),
    ] = -1
