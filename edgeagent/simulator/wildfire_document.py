"""The form ``hyperdrive-wildfire-case/1`` of a placement case: its document, and what is refused of it, by name.

A document that contradicts itself, or has numbers that nothing can have, would give a plan all the same, and a wrong
one: so every number is asked for its range, every name and id for what it means, and the error says which field it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import numpy as np

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import BadRequest

__all__ = ["CASE_FORMAT", "CaseDocument", "Instance", "Task", "read_document", "refuse"]

CASE_FORMAT = "hyperdrive-wildfire-case/1"
_NODES_MAX = 200_000
_SOURCE = "eo_satellite"  # each instance names its own


class HeatClass(msgspec.Struct, frozen=True):
    max_C: float  # noqa: N815 - named by the form
    recommended_C: float  # noqa: N815
    radiated_C_per_min: float  # noqa: N815
    inc_C_per_cpu_min: float  # noqa: N815
    mock_orbit_base_C: float  # noqa: N815

    def estimate_c(self, minutes: float, cores: float) -> float:
        """The original's estimate of a satellite's temperature after a task."""
        base = int(self.mock_orbit_base_C * minutes) % int(self.max_C)
        return base + self.inc_C_per_cpu_min * cores * minutes - self.radiated_C_per_min * minutes


class _Satellites(msgspec.Struct, frozen=True):
    count: int
    arch: str
    milli_cpu: float
    memory_mib: float
    heat_class: str
    heat_classes: list[HeatClass]


class _Terrestrial(msgspec.Struct, frozen=True):
    id: int
    kind: str
    lat: float
    lon: float
    arch: str
    milli_cpu: float
    memory_mib: float


class _Nodes(msgspec.Struct, frozen=True):
    satellites: _Satellites
    terrestrial: list[_Terrestrial]


class Task(msgspec.Struct, frozen=True):
    """What a task takes and needs; run times in ms by architecture, latencies in ms one way."""

    milli_cpu: float
    memory_mib: float
    archs: list[str]
    expected_exec_ms: dict[str, float] = {}
    max_pred_latency_ms: float | None = None
    data_source: str | None = None
    max_data_latency_ms: float | None = None


class _Workflow(msgspec.Struct, frozen=True):
    chain: list[str]
    tasks: dict[str, Task]


class Instance(msgspec.Struct, frozen=True):
    """One run of the chain: where it begins, where its data lies, and when each task is placed."""

    wf: int
    ingest_node: int
    eo_satellite: int
    decision_times: dict[str, int]


class _Links(msgspec.Struct, frozen=True):
    signal_speed_km_per_ms: float
    earth_radius_km: float


class _Orbits(msgspec.Struct, frozen=True):
    planes: int
    sats_per_plane: int


class _Snapshot(msgspec.Struct, frozen=True):
    sat_lat_e4: list[int]
    sat_lon_e4: list[int]
    sat_alt_m: list[float]
    ground_links: list[tuple[float, float, float]]


class CaseDocument(msgspec.Struct, frozen=True):
    """The file; what else is in it is not asked for."""

    format: str
    nodes_total: int
    orbits: _Orbits
    link_model: _Links
    nodes: _Nodes
    workflow: _Workflow
    instances: list[Instance]
    snapshots: dict[str, _Snapshot]


def refuse(what: str, *, field: str = "") -> BadRequest:
    """``field`` is where in the document, as in ``nodes.terrestrial[3].milli_cpu``."""
    details: dict[str, Any] = {"field": field} if field else {}
    return BadRequest(
        f"no placement case: {what}",
        hint=f"give a file of the form {CASE_FORMAT}, plain or gzipped",
        **details,
    )


def read_document(document: CaseDocument | dict[str, Any]) -> CaseDocument:
    """The document, checked. Raises BadRequest; ``details["field"]`` is the field where it is one alone."""
    if isinstance(document, dict):
        try:
            document = msgspec.convert(document, CaseDocument)
        except UNDECODABLE as error:
            raise refuse(str(error)) from error
    for good, what in _rules(document):
        if not good:
            raise refuse(what)
    for field, value, low, high in _numbers(document):
        if not low <= value <= high:  # nor is NaN
            least = "above 0" if low == _TINY else f"from {low:g}"
            most = "" if high == _MOST else f" to {high:g}"
            raise refuse(f"{field} is {value:g}; give a number {least}{most}", field=field)
    for field, good, what in _names(document):
        if not good:
            raise refuse(f"{field} {what}", field=field)
    return document


def _rules(document: CaseDocument) -> Iterator[tuple[bool, str]]:
    """Where parts contradict each other."""
    satellites, terrestrial = document.nodes.satellites, document.nodes.terrestrial
    total, workflow = document.nodes_total, document.workflow
    yield document.format == CASE_FORMAT, f"format is {document.format!r:.60}"
    yield 0 < total <= _NODES_MAX, f"nodes_total is {total}; give 1 to {_NODES_MAX}"
    yield (
        min(document.orbits.planes, document.orbits.sats_per_plane) > 0,
        "orbits have no planes or satellites",
    )
    yield total == satellites.count + len(terrestrial), "nodes_total is not the number of nodes"
    yield (
        satellites.count == document.orbits.planes * document.orbits.sats_per_plane,
        "nodes.satellites.count is not planes times satellites of orbits",
    )
    yield len(satellites.heat_class) == satellites.count, "heat_class has not one digit a satellite"
    digits = set(satellites.heat_class)
    classes = len(satellites.heat_classes)
    yield (
        all(digit in "0123456789" and int(digit) < classes for digit in digits),
        "heat_class names a class that is not there",
    )
    ids = [one.id for one in terrestrial]
    twice = next((one for one in ids if ids.count(one) > 1), None) if len({*ids}) < len(ids) else None
    yield twice is None, f"two nodes of nodes.terrestrial have the id {twice}"
    yield (
        ids == list(range(satellites.count, total)),
        f"the ids of nodes.terrestrial are not {satellites.count} to {total - 1}, in order, behind the satellites'",
    )
    yield len(workflow.chain) >= 2, "workflow.chain has no task behind its first"
    lacking = next((name for name in workflow.chain if name not in workflow.tasks), "")
    yield not lacking, f"workflow.chain names {lacking!r:.60}, a task that is not there"
    again = next((name for at, name in enumerate(workflow.chain) if name in workflow.chain[:at]), "")
    yield not again, f"workflow.chain names the task {again!r:.60} twice: a task cannot follow itself"
    numbers = [one.wf for one in document.instances]
    same = next((wf for at, wf in enumerate(numbers) if wf in numbers[:at]), None)
    yield same is None, f"two instances have the wf {same}"
    for one in document.instances:
        yield from _instance_rules(document, one)
    for t, shot in document.snapshots.items():
        sizes = {len(shot.sat_lat_e4), len(shot.sat_lon_e4), len(shot.sat_alt_m)}
        yield sizes == {satellites.count}, f"snapshot {t} has not one position a satellite"


def _instance_rules(document: CaseDocument, one: Instance) -> Iterator[tuple[bool, str]]:
    total = document.nodes_total
    for name, node in (("ingest_node", one.ingest_node), ("eo_satellite", one.eo_satellite)):
        yield (
            0 <= node < total,
            f"instance {one.wf} names a node that is not there: {name} is {node}, of {total} nodes",
        )
    for task in document.workflow.chain[1:]:
        t = one.decision_times.get(task)
        yield t is not None, f"instance {one.wf} lacks a decision time for {task!r:.60}"
        yield str(t) in document.snapshots, f"instance {one.wf} lacks a snapshot for {task!r:.60} at {t}"


_TINY = 1e-300  # of what must be more than nothing
_MOST = 1e300  # of what is any finite number

_Number = tuple[str, float, float, float]


def _numbers(document: CaseDocument) -> Iterator[_Number]:
    """(field, value, least, most) of every number."""
    flying = document.nodes.satellites
    yield "link_model.signal_speed_km_per_ms", document.link_model.signal_speed_km_per_ms, _TINY, _MOST
    yield "link_model.earth_radius_km", document.link_model.earth_radius_km, _TINY, _MOST
    yield from _amounts("nodes.satellites", flying.milli_cpu, flying.memory_mib)
    for at, heat in enumerate(flying.heat_classes):
        place = f"nodes.satellites.heat_classes[{at}]"
        yield f"{place}.max_C", heat.max_C, 1.0, _MOST
        yield f"{place}.recommended_C", heat.recommended_C, -_MOST, heat.max_C
        for name in ("radiated_C_per_min", "inc_C_per_cpu_min", "mock_orbit_base_C"):
            yield f"{place}.{name}", getattr(heat, name), 0.0, _MOST
    for at, node in enumerate(document.nodes.terrestrial):
        place = f"nodes.terrestrial[{at}]"
        yield from _amounts(place, node.milli_cpu, node.memory_mib)
        yield f"{place}.lat", node.lat, -90.0, 90.0
        yield f"{place}.lon", node.lon, -360.0, 360.0
    for name, task in document.workflow.tasks.items():
        place = f"workflow.tasks.{name:.60}"
        yield from _amounts(place, task.milli_cpu, task.memory_mib)
        for arch, took_ms in task.expected_exec_ms.items():
            yield f"{place}.expected_exec_ms.{arch:.20}", took_ms, 0.0, _MOST
        for limit in ("max_pred_latency_ms", "max_data_latency_ms"):
            if getattr(task, limit) is not None:
                yield f"{place}.{limit}", getattr(task, limit), 0.0, _MOST
    for t, shot in document.snapshots.items():
        yield from _snapshot_numbers(f"snapshots.{t:.20}", shot, document)


def _amounts(place: str, milli_cpu: float, memory_mib: float) -> Iterator[_Number]:
    yield f"{place}.milli_cpu", milli_cpu, 0.0, _MOST
    yield f"{place}.memory_mib", memory_mib, 0.0, _MOST


def _snapshot_numbers(place: str, shot: _Snapshot, document: CaseDocument) -> Iterator[_Number]:
    """Of each long list the first number that is out of its range, if one is."""
    radius_m = document.link_model.earth_radius_km * 1e3
    each: list[tuple[str, Iterable[float], float, float]] = [
        ("sat_lat_e4", shot.sat_lat_e4, -90e4, 90e4),
        ("sat_lon_e4", shot.sat_lon_e4, -360e4, 360e4),
        ("sat_alt_m", shot.sat_alt_m, -radius_m, _MOST),
    ]
    for name, values, low, high in each:
        array = np.array(values, dtype=np.float64)
        wrong = np.flatnonzero(~((array >= low) & (array <= high)))
        if len(wrong):
            yield f"{place}.{name}[{wrong[0]}]", float(array[wrong[0]]), low, high
    count, total = document.nodes.satellites.count, document.nodes_total
    for at, (ground, satellite, took_ms) in enumerate(shot.ground_links):
        here = f"{place}.ground_links[{at}]"
        yield f"{here}[0], a terrestrial node that it links,", ground, float(count), float(total - 1)
        yield f"{here}[1], a satellite that it links,", satellite, 0.0, float(count - 1)
        yield f"{here}[2]", took_ms, 0.0, _MOST


def _names(document: CaseDocument) -> Iterator[tuple[str, bool, str]]:
    """(field, whether it is good, what is wrong) of what is no number's range."""
    for name, task in document.workflow.tasks.items():
        place = f"workflow.tasks.{name:.60}"
        yield f"{place}.archs", bool(task.archs), "is empty: no node could run it"
        untimed = sorted({*task.archs} - {*task.expected_exec_ms}) if task.expected_exec_ms else []
        yield f"{place}.expected_exec_ms", not untimed, f"has no run time for {', '.join(untimed):.60}"
        source = task.data_source
        known = source is None or source == _SOURCE
        yield f"{place}.data_source", known, f"is {source!r:.60}; the one that is known is {_SOURCE!r}"
    for t, shot in document.snapshots.items():
        for at, link in enumerate(shot.ground_links):
            whole = link[0] == int(link[0]) and link[1] == int(link[1])
            yield f"snapshots.{t:.20}.ground_links[{at}]", whole, "links nodes whose ids are no whole numbers"
