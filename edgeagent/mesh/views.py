"""What a node shows of the mesh: ``/v1/peers`` and ``/v1/contacts``. Times are UTC, in ISO 8601."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import numpy as np

from edgeagent.gossip.codec import decode_item
from edgeagent.gossip.errors import RecordRefused
from edgeagent.gossip.members import Member
from edgeagent.gossip.records import Capabilities, Digests, Load, Record, Section
from edgeagent.mesh.addresses import text_of
from edgeagent.mesh.service import MeshService
from edgeagent.mesh.sky import Sky, node_of, sunlit
from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import BadRequest, NotFound
from edgeagent.orbit.age import DEFAULT_POLICY, age_s
from edgeagent.orbit.geodetic import geodetic_of
from edgeagent.orbit.nodes import Node, Satellite
from edgeagent.orbit.planner import Planner

__all__ = ["CONTACTS_HOURS_MAX", "adopted_view", "contacts_view", "peers_view", "place_view", "resolved"]

CONTACTS_HOURS_MAX = 48.0
_PAIRS_MAX = 2000

_sections: dict[Section, msgspec.msgpack.Decoder[Any]] = {
    Section.CAPABILITIES: msgspec.msgpack.Decoder(Capabilities),
    Section.FUNCTIONS: msgspec.msgpack.Decoder(Digests),
    Section.LOAD: msgspec.msgpack.Decoder(Load),
}


def iso(utc_s: float | None) -> str | None:
    """Seconds since 1970 as people read them."""
    if utc_s is None:
        return None
    return datetime.datetime.fromtimestamp(utc_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def resolved(service: MeshService, text: str) -> str:
    """The node that an id, or the beginning of one, stands for. Raises NotFound, BadRequest."""
    names = {service.name, *service.core.states()}
    if text in names:
        return text
    found = sorted(name for name in names if text and name.startswith(text))
    if not found:
        raise NotFound(f"the mesh knows no node {text!r:.80}", hint="edgeagent peers lists them")
    if len(found) > 1:
        raise BadRequest(f"{text!r:.80} stands for {len(found)} nodes", hint="give more of the id")
    return found[0]


def adopted_view(service: MeshService, blob: bytes) -> dict[str, Any]:
    """Take an ephemeris; ``taken``: it is newer than what was known. Raises WireRefused, RecordRefused, OrbitFault."""
    record = decode_item(blob)
    if not isinstance(record, Record) or record.section != Section.EPHEMERIS:
        raise RecordRefused("not an ephemeris", hint="edgeagent elements makes them")
    node = node_of(record.name, record, 0.0)
    if not isinstance(node, Satellite):
        raise RecordRefused("an ephemeris without elements", hint="edgeagent elements makes them")
    member = service.core.member(record.name)
    held = -1 if member is None else member.version_of(record.section)
    if record.version > held:
        service.adopt(blob)
    best = service.sky.nodes.get(record.name, node)
    epoch_s = best.elements.epoch_s if isinstance(best, Satellite) else node.elements.epoch_s
    return {"ok": True, "node": record.name, "taken": record.version > held, "epoch": iso(epoch_s)}


def peers_view(service: MeshService, loop_now_s: float) -> dict[str, Any]:
    """All members, by state and id."""
    utc_s = service.utc_now_s()
    core, table = service.core, service.sky.table
    members = [core.member(name) for name in core.states()]
    peers = [_peer(service.sky, service.name, one, utc_s, loop_now_s) for one in members if one is not None]
    return {
        "node": service.name,
        "address": service.address,
        "clock": "ok" if utc_s is not None else "unsynchronised",
        "name_taken": service.name_taken,
        "seeds": [text_of(seed) for seed in service.settings.seeds],
        "refused": 0 if service.carrier is None else service.carrier.refused,
        "health": core.health,
        "incarnation": core.incarnation,
        "predicted_until": iso(table.end_s) if table is not None and table.end_s else None,
        "place": place_view(service.sky.nodes.get(service.name), utc_s),
        "peers": sorted(peers, key=lambda one: (one["state"], one["id"])),
    }


def _peer(sky: Sky, me: str, member: Member, utc_s: float | None, loop_now_s: float) -> dict[str, Any]:
    identity = member.records[Section.IDENTITY]
    told = identity.identity if identity is not None else None
    view: dict[str, Any] = {
        "id": member.name,
        "state": member.state.value,
        "address": member.address,
        "endpoints": list(told.endpoints[1:]) if told is not None else [],
        "kind": told.kind if told is not None else "",
        "incarnation": member.incarnation,
        "trust": member.trust.name.lower(),
        "since_s": round(max(0.0, loop_now_s - member.since_s), 1),
        "heard_s": round(loop_now_s - member.heard_s, 1) if member.heard_s > -1e8 else None,
        "place": place_view(sky.nodes.get(member.name), utc_s),
        "contradicted": sky.is_distrusted(member.name),
        **_contact(sky, me, member.name, utc_s),
    }
    for section, name in ((Section.CAPABILITIES, "capabilities"), (Section.LOAD, "load")):
        value = _said(member.records[section])
        view[name] = None if value is None else msgspec.structs.asdict(value)
    digests = _said(member.records[Section.FUNCTIONS])
    view["functions"] = [one.hex() for one in digests.digests] if isinstance(digests, Digests) else []
    return view


def _said(record: Record | None) -> Capabilities | Digests | Load | None:
    if record is None:
        return None
    try:
        said: Capabilities | Digests | Load = _sections[Section(record.section)].decode(record.payload)
    except UNDECODABLE:  # a later version's: shown as unknown
        return None
    return said


def _contact(sky: Sky, me: str, name: str, utc_s: float | None) -> dict[str, Any]:
    """Whether a route is predicted now, how long it takes, and when there is one again."""
    table = sky.table
    nodes = {me, name} <= sky.nodes.keys()
    if utc_s is None or table is None or not nodes or not {me, name} <= set(table.topology.ids):
        return {"in_contact": None, "latency_ms": None, "returns_at": None}
    if not table.reachable(me, name, utc_s):
        returns = iso(table.returns_at_s(me, name, utc_s))
        return {"in_contact": False, "latency_ms": None, "returns_at": returns}
    latency_ms = table.topology.latency_ms(me, name, utc_s)
    known = bool(np.isfinite(latency_ms))
    return {"in_contact": True, "latency_ms": round(latency_ms, 3) if known else None, "returns_at": None}


def place_view(node: Node | None, utc_s: float | None) -> dict[str, Any] | None:
    if node is None:
        return None
    if not isinstance(node, Satellite):
        return {
            "kind": "ground",
            "latitude_deg": node.latitude_deg,
            "longitude_deg": node.longitude_deg,
            "height_m": node.height_m,
        }
    view: dict[str, Any] = {
        "kind": "satellite",
        "object": node.elements.label,
        "object_key": node.elements.key,
        "epoch": iso(node.elements.epoch_s),
    }
    if utc_s is None:
        return view
    view["elements"] = DEFAULT_POLICY.verdict(node.elements, utc_s).value
    view["elements_age_days"] = round(age_s(node.elements, utc_s) / 86_400, 1)
    where = node.positions_km(utc_s)[0]
    if np.isnan(where).any():
        return view
    latitude, longitude, height = geodetic_of(where)
    return view | {
        "latitude_deg": round(float(latitude), 4),
        "longitude_deg": round(float(longitude), 4),
        "altitude_km": round(float(height), 2),
        "sunlit": sunlit(node, utc_s),
    }


def contacts_view(
    nodes: dict[str, Node], me: str, peer: str | None, utc_s: float, hours: float
) -> dict[str, Any]:
    """Direct contacts from now on: of this node with all others, or with one. Takes long: not for the loop's thread.

    Raises BadRequest, NotFound.
    """
    if not 0.0 < hours <= CONTACTS_HOURS_MAX:
        raise BadRequest(f"{hours:g} hours", hint=f"ask for more than 0 and at most {CONTACTS_HOURS_MAX:g}")
    for name in (me, peer):
        if name is not None and name not in nodes:
            raise NotFound(
                f"node {name[:12]} has not said where it is",
                hint="mesh.orbit or mesh.position of its configuration says it",
            )
    others = [peer] if peer is not None else sorted(set(nodes) - {me})[:_PAIRS_MAX]
    planner = Planner(
        [nodes[name] for name in {me, *others}],
        pairs=[(me, other) for other in others if other != me],
        horizon_s=hours * 3600.0,
    )
    found = [window for window in planner.advance(utc_s).windows if window.start_s < utc_s + hours * 3600.0]
    return {
        "node": me,
        "from": iso(utc_s),
        "until": iso(utc_s + hours * 3600.0),
        "contacts": [
            {
                "peer": window.b if window.a == me else window.a,
                "start": iso(window.start_s),
                "end": iso(window.end_s),
                "start_s": round(window.start_s, 1),
                "end_s": round(window.end_s, 1),
                "duration_s": round(window.duration_s, 1),
                "now": window.start_s <= utc_s < window.end_s,
                "goes_on": window.cut_end,
            }
            for window in found
            if window.end_s > utc_s
        ],
    }
