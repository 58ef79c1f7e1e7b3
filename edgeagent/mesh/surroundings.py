"""Who could take work, as gossip tells it: one view a member, and the network between them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgeagent.cost.prices import link_of, price_of
from edgeagent.gossip.members import Member
from edgeagent.gossip.records import Capabilities, Digests, Identity, Load, Record, Section, Trust
from edgeagent.gossip.states import State
from edgeagent.mesh.network import MeshNetwork
from edgeagent.mesh.service import MeshService
from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.gpu import gpu_state_of
from edgeagent.placement.body import body_of
from edgeagent.placement.views import NodeLoad, NodeView
from edgeagent.topology.topology import Topology

__all__ = ["Surroundings", "endpoint_of", "view_of"]

_decoders: dict[Section, msgspec.msgpack.Decoder[Capabilities | Digests | Load]] = {
    Section.CAPABILITIES: msgspec.msgpack.Decoder(Capabilities),
    Section.FUNCTIONS: msgspec.msgpack.Decoder(Digests),
    Section.LOAD: msgspec.msgpack.Decoder(Load),
}
_GONE = {State.DEAD: "dead", State.LEFT: "has left", State.OCCLUDED: "occluded: out of contact"}
_KIND_LABEL = "kind:"


def _said(record: Record | None) -> Capabilities | Digests | Load | None:
    if record is None:
        return None
    try:
        return _decoders[Section(record.section)].decode(record.payload)
    except UNDECODABLE:
        return None  # a later version's: as if it had said nothing


def _identity(member: Member) -> Identity | None:
    record = member.records[Section.IDENTITY]
    return None if record is None else record.identity


def endpoint_of(service: MeshService, node: str) -> str | None:
    """The URL of a member's HTTP, None where it is unknown or has said none."""
    member = service.core.member(node)
    told = None if member is None else _identity(member)
    return told.endpoints[1] if told is not None and len(told.endpoints) > 1 else None


def view_of(service: MeshService, member: Member, now_s: float, excluded: str = "") -> NodeView:
    """What gossip tells of a member; ``now_s`` is the loop's time. What is not known is None."""
    told, is_me = _identity(member), member.name == service.name
    can = _said(member.records[Section.CAPABILITIES])
    load = _said(member.records[Section.LOAD])
    holds = _said(member.records[Section.FUNCTIONS])
    labels = can.labels if isinstance(can, Capabilities) else ()
    kind = next((one[len(_KIND_LABEL) :] for one in labels if one.startswith(_KIND_LABEL)), "")
    gone = "" if is_me else _GONE.get(member.state, "")
    if not gone and not is_me and told is not None and len(told.endpoints) < 2:
        gone = "has no HTTP endpoint"
    kind = kind or (told.kind if told is not None else "")
    return NodeView(
        id=member.name,
        kind=kind,
        usd_per_cpu_s=price_of(kind).usd_per_cpu_s,
        usd_per_gib_out=link_of(kind).usd_per_gib,
        architecture=can.architecture if isinstance(can, Capabilities) else "",
        cores=can.cores if isinstance(can, Capabilities) else None,
        memory_bytes=can.memory_bytes if isinstance(can, Capabilities) else None,
        gpu=can.gpu if isinstance(can, Capabilities) else "",
        labels=labels,
        functions=frozenset(one.hex() for one in holds.digests)
        if isinstance(holds, Digests)
        else frozenset(),
        load=_load(load, 0.0 if is_me else now_s - service.load_heard_s.get(member.name, -1e9))
        if isinstance(load, Load)
        else None,
        body=body_of(labels),
        trusted=is_me or member.trust is Trust.VERIFIED,
        excluded=gone or excluded,
    )


def _load(load: Load, age_s: float) -> NodeLoad:
    return NodeLoad(
        cpu=load.cpu,
        queue=load.queue,
        memory_free_bytes=load.memory_free_bytes,
        temperature_c=load.temperature_c,
        battery=load.battery,
        sunlit=load.sunlit,
        gpu=load.gpu,
        gpu_state=gpu_state_of(load.gpu_state),
        gpu_temperature_c=load.gpu_temperature_c,
        gpu_queue=load.gpu_queue,
        age_s=age_s,
    )


class Surroundings:
    """On the loop's thread; the network that it gives away is asked on another, one question at a time."""

    def __init__(self, service: MeshService) -> None:
        self._service = service
        self._network: MeshNetwork | None = None
        self._of: tuple[object, ...] = ()

    def views(self, now_s: float, excluded: Mapping[str, str]) -> list[NodeView]:
        """All members and this node, in the order of their ids; ``excluded`` are reasons against some of them."""
        core = self._service.core
        names = sorted({self._service.name, *core.states()})
        members = [core.member(name) for name in names]
        return [
            view_of(self._service, one, now_s, excluded.get(one.name, ""))
            for one in members
            if one is not None
        ]

    def network(self, ids: tuple[str, ...]) -> MeshNetwork:
        """Between these, by the newest prediction."""
        sky = self._service.sky
        key = (ids, sky.table)
        if self._network is None or self._of != key:
            topology: Topology | None = None
            if sky.table is not None:
                topology = sky.table.another_topology()
            self._network = MeshNetwork(ids, dict(sky.nodes), sky.table, topology)
            self._of = key
        return self._network
