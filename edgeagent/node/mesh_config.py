"""The section ``[mesh]`` of a configuration as the mesh takes it.

The mesh's rooms bring numpy and SGP4, which a lonely node has no use for: they are imported where they are asked for.
"""

from __future__ import annotations

import ipaddress
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgeagent.model.errors import BadConfig
from edgeagent.node.config_schema import MeshSection

if TYPE_CHECKING:
    from edgeagent.mesh.settings import MeshSettings

__all__ = ["check_listens", "check_mesh", "mesh_settings"]


def mesh_settings(section: MeshSection) -> MeshSettings:
    """The settings of a section that listens. Raises BadConfig."""
    from edgeagent.gossip.presets import preset
    from edgeagent.mesh.emulation import emulation_of
    from edgeagent.mesh.ephemeris import operator_keys
    from edgeagent.mesh.settings import MeshSettings, allowed_networks, own_elements, own_place, seeds_of
    from edgeagent.mesh.sky import SkySettings
    from edgeagent.node.config import host_and_port

    host, port = host_and_port(section.listen, "mesh.listen", "mesh.listen")
    for key, value in (("mesh.listen", host), ("mesh.advertise", section.advertise)):
        _checked_ip(key, value)
    if section.position and (section.orbit or section.orbit_command):
        raise BadConfig(
            "mesh.position and an orbit are both given: which one is true?",
            hint="a satellite has mesh.orbit or mesh.orbit_command, what stands on the ground mesh.position",
        )
    return MeshSettings(
        host=host,
        port=port,
        advertise=section.advertise,
        seeds=seeds_of(section.seeds),
        allowed=allowed_networks(section.allowed, host),
        knobs=preset(section.preset),
        sky=SkySettings(
            isl=section.isl,
            ground_network=section.ground_network,
            horizon_s=section.horizon_ms / 1000,
            mask_deg=float(section.mask_deg),
        ),
        elements=own_elements(section.orbit, section.orbit_object),
        place=own_place(section.position, float(section.mask_deg)),
        emulation=emulation_of(section.emulate, time.time()),
        orbit_command=section.orbit_command,
        orbit_object=section.orbit_object,
        orbit_every_s=section.orbit_every_ms / 1000,
        operators=operator_keys(section.operators),
    )


def check_listens(section: MeshSection) -> None:
    """Who names seeds means to be a member, and would wait for the others in vain. Raises BadConfig."""
    if section.seeds and not section.listen:
        raise BadConfig(
            f"mesh.seeds = {section.seeds!r:.80} without mesh.listen: this node would ask nobody",
            hint="give mesh.listen an IP:port, or take mesh.seeds out where this node is to be alone",
        )


def check_mesh(section: MeshSection) -> None:
    """What a start would refuse, but for which node's keys they are. Raises BadConfig."""
    check_listens(section)
    if section.listen:
        from edgeagent.mesh.settings import advertised_address

        settings = mesh_settings(section)
        advertised_address(settings, settings.port, has_keys=bool(section.keys))
    if section.keys:
        from edgeagent.mesh.key_files import load_ring
        from edgeagent.mesh.tls import tls_context

        load_ring(Path(section.keys))
        tls_context(Path(section.keys), server=True)


def _checked_ip(key: str, text: str) -> None:
    try:
        if text:
            ipaddress.ip_address(text)
    except ValueError:
        raise BadConfig(f"{key} = {text!r:.80} is no IP address", hint="names are for mesh.seeds") from None
