"""What a node of the mesh is told: where it listens, whom it asks first, and where it is."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import msgspec

from edgeagent.gossip.knobs import Knobs
from edgeagent.gossip.presets import preset
from edgeagent.mesh.addresses import AddressRefused, is_loopback, text_of
from edgeagent.mesh.emulation import Emulation
from edgeagent.mesh.sky import SkySettings
from edgeagent.model.errors import BadConfig
from edgeagent.orbit.elements import Elements
from edgeagent.orbit.errors import OrbitFault
from edgeagent.orbit.importer import read_elements
from edgeagent.orbit.nodes import GroundNode

__all__ = [
    "MeshSettings",
    "advertised_address",
    "allowed_networks",
    "chosen_elements",
    "own_elements",
    "own_place",
    "seeds_of",
]

_EVERYWHERE = ("0.0.0.0/0", "::/0")
_LOOPBACK = ("127.0.0.0/8", "::1/128")


class MeshSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``seeds`` are HOST:PORT and may be names; ``advertise`` is the address that others are told, empty: the one that
    is listened on. ``elements`` or ``place`` say where the node is; neither: nobody predicts it.
    """

    host: str
    port: int
    advertise: str = ""
    seeds: tuple[tuple[str, int], ...] = ()
    allowed: tuple[str, ...] = _LOOPBACK
    knobs: Knobs = preset("lan")
    sky: SkySettings = SkySettings()
    elements: Elements | None = None
    place: tuple[float, float, float] | None = None  # degrees, degrees, metres
    emulation: Emulation | None = None
    orbit_command: str = ""
    orbit_object: str = ""
    orbit_every_s: float = 600.0
    operators: frozenset[bytes] = frozenset()  # public keys whose ephemerides count


def advertised_address(settings: MeshSettings, port: int, *, has_keys: bool) -> str:
    """The address that others are told, with the port that is really listened on. Raises BadConfig for settings that
    contradict each other.
    """
    listen = text_of((settings.host, settings.port))
    if not has_keys and not is_loopback(settings.host):
        raise BadConfig(
            f"mesh.listen = {listen!r} is beyond loopback without keys",
            hint="make them with edgeagent keys init, and name the folder in mesh.keys",
        )
    if settings.emulation is not None and not is_loopback(settings.host):
        raise BadConfig(
            "mesh.emulate is for nodes on loopback",
            hint="take it out, or let mesh.listen be on 127.0.0.1",
        )
    host = settings.advertise or settings.host
    if ipaddress.ip_address(host).is_unspecified:
        raise BadConfig(
            f"mesh.listen = {listen!r} says nothing that others could call",
            hint="name the address that they reach in mesh.advertise",
        )
    return text_of((host, port))


def seeds_of(text: str) -> tuple[tuple[str, int], ...]:
    """The hosts and ports of ``HOST:PORT, HOST:PORT``. Raises AddressRefused."""
    found = []
    for word in text.replace(",", " ").split():
        host, _, port = word.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise AddressRefused(f"mesh.seeds names {word!r:.80}", hint="give HOST:PORT, separated by commas")
        found.append((host, int(port)))
    return tuple(found)


def allowed_networks(text: str, listen_host: str) -> tuple[str, ...]:
    """The networks of a list; by default loopback for who listens there, else all."""
    given = tuple(text.replace(",", " ").split())
    return given or (_LOOPBACK if is_loopback(listen_host) else _EVERYWHERE)


def own_place(text: str, mask_deg: float = 0.0) -> tuple[float, float, float] | None:
    """Latitude and longitude in degrees and height in metres of ``48.2, 16.4, 171``. Raises BadConfig."""
    words = text.replace(",", " ").split()
    if not words:
        return None
    try:
        numbers = [float(word) for word in words]
        if not 2 <= len(numbers) <= 3:
            raise ValueError
    except ValueError:
        raise BadConfig(
            f"mesh.position = {text!r:.80} is no place",
            hint="give latitude and longitude in degrees and the height in metres: 48.2, 16.4, 171",
        ) from None
    place = (numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else 0.0)
    try:
        GroundNode(
            id="here", latitude_deg=place[0], longitude_deg=place[1], height_m=place[2], mask_deg=mask_deg
        )
    except OrbitFault as error:
        raise BadConfig(f"mesh.position: {error.message}", hint=error.hint) from None
    return place


def own_elements(path: str, which: str) -> Elements | None:
    """The element set of this node in a file with one or many; ``which`` is its name or catalogue number.

    Raises BadConfig.
    """
    if not path:
        return None
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BadConfig(f"mesh.orbit = {path!r:.200}: {error.strerror}", hint="name a file") from None
    return chosen_elements(data, which, f"mesh.orbit = {path!r:.200}")


def chosen_elements(data: bytes, which: str, source: str) -> Elements:
    """The newest set of the one object that ``which`` names, or that there is. Raises BadConfig naming the source."""
    try:
        found = read_elements(data)
    except OrbitFault as error:
        raise BadConfig(f"{source}: {error.message}", hint=error.hint) from None
    mine = [one for one in found if not which or which in {one.name, str(one.norad_id), one.object_id}]
    if len({one.key for one in mine}) != 1:
        there = ", ".join(one.label for one in found[:5])
        raise BadConfig(
            f"mesh.orbit_object = {which!r:.80} stands for {len(mine)} of the {len(found)} objects: {source}",
            hint=f"give the name or catalogue number of one of them: {there}{', ...' if len(found) > 5 else ''}",
        )
    return max(mine, key=lambda one: one.epoch_us)
