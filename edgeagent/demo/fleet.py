"""The demo's eight daemons: a cloud node, a ground station, two edge nodes and four satellites, each a process."""

from __future__ import annotations

import contextlib
import datetime
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from edgeagent.demo.chain import call_node
from edgeagent.demo.daemon import begin_daemon, end_daemon, is_ready
from edgeagent.demo.orbits import SATELLITES, train, write_omm
from edgeagent.model.errors import Unavailable

__all__ = ["SPEED", "Fleet", "Member", "call_json", "fleet", "ground_places"]

SPEED = 12  # seconds of orbits in a second
_MEET_S = 60.0
_LOOK_S = 0.2
# name, kind, latitude, longitude (degrees), height (m): near the scene, which is in North Carolina
_GROUND = (
    ("edge-1", "edge", 35.79, -78.69, 100),
    ("edge-2", "edge", 35.60, -78.90, 100),
    ("ground", "ground", 37.94, -75.47, 10),
    ("cloud", "cloud", 39.04, -77.49, 90),
)


class Member(msgspec.Struct, kw_only=True):
    """One daemon; ``id`` and ``url`` are known when it is ready."""

    name: str
    kind: str
    id: str = ""
    url: str = ""
    process: Any = None

    @property
    def pid(self) -> int:
        return int(self.process.pid)


class Fleet:
    """The first member is the edge node at which things are deployed and begin."""

    def __init__(self, members: list[Member], since_s: float) -> None:
        self.members = members
        self.since_s = since_s

    @property
    def origin(self) -> Member:
        return self.members[0]

    def name_of(self, node: str | None) -> str:
        """What the demo calls a node."""
        return next((one.name for one in self.members if one.id == node), (node or "?")[:8])

    def kind_of(self, node: str | None) -> str:
        return next((one.kind for one in self.members if one.id == node), "")

    def orbital_s(self) -> float:
        """Seconds of orbital time since the beginning."""
        return (time.time() - self.since_s) * SPEED

    def wait_until_met(self, say: Callable[[str], None]) -> None:
        """Until the origin knows all others, what they can do, and where the satellites will be. Raises Unavailable."""
        until, said = time.monotonic() + _MEET_S, -1
        while time.monotonic() < until:
            view = call_json(self.origin.url, "GET", "/v1/peers")
            told = [one for one in view["peers"] if one["capabilities"] and one["place"]]
            if len(told) != said:
                said = len(told)
                say(f"{said + 1} of {len(self.members)} nodes know each other")
            linked = [one for one in told if one["in_contact"] and one["load"]]
            if said == len(self.members) - 1 and view["predicted_until"] and linked:
                return
            time.sleep(_LOOK_S)
        raise Unavailable(
            "the demo's daemons did not find each other in a minute", hint="is the machine very busy?"
        )


def ground_places() -> list[tuple[str, str, float, float]]:
    """(name, kind, latitude, longitude in degrees) of those that stand on the ground."""
    return [(name, kind, latitude, longitude) for name, kind, latitude, longitude, _ in _GROUND]


def call_json(url: str, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> Any:
    """Raises PeerFailed."""
    _, answer = call_node(url, method, path, body, kind)
    return msgspec.json.decode(answer)


def configs_directory() -> Path:
    """Where configs/*.toml are: the repository, or what was installed with the package. Raises Unavailable."""
    for place in (
        Path(__file__).resolve().parents[2] / "configs",
        Path(sys.prefix) / "share/edgeagent/configs",
    ):
        if (place / "satellite.toml").exists():
            return place
    raise Unavailable(
        "the demo's configurations are not here: configs/satellite.toml", hint="run it from a clone"
    )


@contextmanager
def fleet(state: Path, say: Callable[[str], None]) -> Iterator[Fleet]:
    """All of them up; stopped on every way out. Raises PeerFailed when one does not start."""
    since_s = float(int(time.time()))
    orbits = state / "orbits.json"
    write_omm(orbits, train(since_s))
    since = datetime.datetime.fromtimestamp(since_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    shared = {
        "mesh.keys": "",
        "mesh.operators": "",
        "mesh.advertise": "",
        "mesh.allowed": "",
        "mesh.listen": "127.0.0.1:0",
        "mesh.preset": "local",
        "mesh.emulate": f"{SPEED} since {since}",
        "mesh.mask_deg": "10",
        "http.listen_tls": "",
        "hose.listen": "127.0.0.1:0",
    }
    places = [
        (
            Member(name=name, kind=kind),
            {"mesh.position": f"{latitude},{longitude},{height}", "placement.labels": name},
        )
        for name, kind, latitude, longitude, height in _GROUND
    ]
    places += [
        (
            Member(name=f"sat-{number + 1}", kind="satellite"),
            {
                "mesh.orbit": str(orbits),
                "mesh.orbit_object": f"EO-{number + 1}",
                "placement.labels": f"source:eo-{number + 1}",
            },
        )
        for number in range(SATELLITES)
    ]
    with contextlib.ExitStack() as ending:
        seeds = ""
        for member, own in places:
            settings = {**shared, "mesh.seeds": seeds, **own}
            config = configs_directory() / f"{member.kind}.toml"
            member.process = begin_daemon(state / member.name, settings, config=config, log_level="error")
            ending.callback(end_daemon, member.process)
            if not seeds:
                _settle(member)
                seeds = str(call_json(member.url, "GET", "/v1/peers")["address"])
        for member, _ in places[1:]:
            _settle(member)
        say(f"{len(places)} daemons: " + ", ".join(member.name for member, _ in places))
        try:
            yield Fleet([member for member, _ in places], since_s)
        finally:
            for member, _ in places:  # all at once: each takes its time
                member.process.terminate()


def _settle(member: Member) -> None:
    ready = is_ready(member.process)
    member.id, member.url = str(ready["node"]), str(ready["url"])
