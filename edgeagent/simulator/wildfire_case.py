"""A placement case of the form ``hyperdrive-wildfire-case/1``: nodes, a chain of tasks, the network of each decision.

The form and its rules are those of HyperDrive's wildfire scenario (arXiv:2410.16026): latencies are straight distances
over one signal speed, satellites hold a +grid that closes over the last plane, and every terrestrial node has one
antenna, to its nearest satellite. Tasks never give back what they take. Heat is the original's estimate, a formula of
the task's duration alone.
"""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import BadRequest
from edgeagent.topology.graph import Graph

__all__ = ["CASE_FORMAT", "Case", "CaseDocument", "Instance", "Task", "case_of", "read_case"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

CASE_FORMAT = "hyperdrive-wildfire-case/1"
_FILE_BYTES_MAX = 256 << 20
_NODES_MAX = 200_000


class _HeatClass(msgspec.Struct, frozen=True):
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
    heat_classes: list[_HeatClass]


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


def _refuse(what: str) -> BadRequest:
    return BadRequest(
        f"no placement case: {what}", hint=f"give a file of the form {CASE_FORMAT}, plain or gzipped"
    )


def _check(document: CaseDocument) -> None:
    """Raises BadRequest where parts of the document contradict each other."""
    satellites, terrestrial = document.nodes.satellites, document.nodes.terrestrial
    total = document.nodes_total
    rules = [
        (document.format == CASE_FORMAT, f"format is {document.format!r:.60}"),
        (0 < total <= _NODES_MAX, f"{total} nodes"),
        (total == satellites.count + len(terrestrial), "nodes_total is not the number of nodes"),
        (satellites.count == document.orbits.planes * document.orbits.sats_per_plane, "planes times satellites"),
        (len(satellites.heat_class) == satellites.count, "heat_class has not one digit a satellite"),
        (
            all(digit.isdigit() and int(digit) < len(satellites.heat_classes) for digit in set(satellites.heat_class)),
            "heat_class names a class that is not there",
        ),
        (all(one.max_C >= 1.0 for one in satellites.heat_classes), "a max_C is below 1"),
        (
            [one.id for one in terrestrial] == list(range(satellites.count, total)),
            "terrestrial ids do not follow the satellites'",
        ),
        (len(document.workflow.chain) >= 2, "the chain has no task behind its first"),
        (set(document.workflow.chain) <= set(document.workflow.tasks), "the chain names a task that is not there"),
        (len(set(document.workflow.chain)) == len(document.workflow.chain), "the chain names a task twice"),
        (document.link_model.signal_speed_km_per_ms > 0.0, "the signal speed is not positive"),
    ]  # fmt: skip
    tasks = document.workflow.tasks.values()
    timed = all(set(task.archs) <= {*task.expected_exec_ms} or not task.expected_exec_ms for task in tasks)
    rules.append((timed, "an architecture of a task has no run time"))
    for one in document.instances:
        ends = (one.ingest_node, one.eo_satellite)
        placed = document.workflow.chain[1:]
        rules.append(
            (all(0 <= node < total for node in ends), f"instance {one.wf} names a node that is not there")
        )
        rules.append((set(placed) <= set(one.decision_times), f"instance {one.wf} lacks a decision time"))
        times = [one.decision_times.get(name) for name in placed]
        rules.append(
            (all(str(t) in document.snapshots for t in times), f"instance {one.wf} lacks a snapshot")
        )
    for t, shot in document.snapshots.items():
        sizes = {len(shot.sat_lat_e4), len(shot.sat_lon_e4), len(shot.sat_alt_m)}
        ends_ok = all(
            satellites.count <= ground < total and 0 <= satellite < satellites.count and 0.0 <= ms < math.inf
            for ground, satellite, ms in shot.ground_links
        )
        rules.append((sizes == {satellites.count}, f"snapshot {t} has not one position a satellite"))
        rules.append((ends_ok, f"snapshot {t} links nodes that are not there"))
    for good, what in rules:
        if not good:
            raise _refuse(what)


@dataclass(frozen=True, eq=False)
class Case:
    """A case with its arrays; rows are node ids."""

    document: CaseDocument

    @property
    def nodes(self) -> int:
        return self.document.nodes_total

    @property
    def satellites(self) -> int:
        return self.document.nodes.satellites.count

    @property
    def instances(self) -> list[Instance]:
        """The runs of the chain, in the order in which they are placed."""
        return self.document.instances

    @property
    def tasks(self) -> list[tuple[str, Task]]:
        """The tasks that are placed, in order: all but the first, which runs where its data comes in."""
        workflow = self.document.workflow
        return [(name, workflow.tasks[name]) for name in workflow.chain[1:]]

    @cached_property
    def capacity(self) -> Floats:
        """MCPU and MiB, ``(nodes, 2)``."""
        flying = self.document.nodes.satellites
        rows = [(flying.milli_cpu, flying.memory_mib)] * flying.count
        rows += [(one.milli_cpu, one.memory_mib) for one in self.document.nodes.terrestrial]
        return np.array(rows, dtype=np.float64)

    @cached_property
    def architectures(self) -> NDArray[np.str_]:
        flying = self.document.nodes.satellites
        return np.array([flying.arch] * flying.count + [one.arch for one in self.document.nodes.terrestrial])

    @cached_property
    def kinds(self) -> list[str]:
        return ["satellite"] * self.satellites + [one.kind for one in self.document.nodes.terrestrial]

    @cached_property
    def heat_classes(self) -> NDArray[np.intp]:
        """The class of each satellite."""
        return np.array([int(digit) for digit in self.document.nodes.satellites.heat_class], dtype=np.intp)

    @cached_property
    def _of_kind(self) -> dict[str, Flags]:
        kinds = np.array(self.kinds)
        return {kind: kinds == kind for kind in set(self.kinds)}

    def of_kind(self, kind: str) -> Flags:
        """Which nodes are of a kind, ``(nodes,)``; not to be changed."""
        return self._of_kind.get(kind, np.zeros(self.nodes, dtype=np.bool_))

    def architecture_fits(self, task: Task) -> Flags:
        """Which nodes have an architecture that the task has a binary for, ``(nodes,)``; not to be changed."""
        key = tuple(task.archs)
        if key not in self._fits:
            self._fits[key] = np.isin(self.architectures, task.archs)
        return self._fits[key]

    @cached_property
    def _fits(self) -> dict[tuple[str, ...], Flags]:
        return {}

    def heat_c(self, task: Task) -> tuple[Floats, Floats, Floats]:
        """(estimate, recommended, maximum) after ``task``, degrees C, ``(nodes,)``; -inf and inf on the ground.

        Not to be changed.
        """
        key = (task.milli_cpu, task.expected_exec_ms.get(self.document.nodes.satellites.arch, 0.0))
        if key not in self._heat:
            self._heat[key] = self._heat_c(task)
        return self._heat[key]

    @cached_property
    def _heat(self) -> dict[tuple[float, float], tuple[Floats, Floats, Floats]]:
        return {}

    def _heat_c(self, task: Task) -> tuple[Floats, Floats, Floats]:
        classes = self.document.nodes.satellites.heat_classes
        arch = self.document.nodes.satellites.arch
        minutes = task.expected_exec_ms.get(arch, 0.0) / 6e4
        after = np.full(self.nodes, -np.inf)
        recommended, highest = np.full(self.nodes, np.inf), np.full(self.nodes, np.inf)
        each = np.array(
            [(one.estimate_c(minutes, task.milli_cpu / 1e3), one.recommended_C, one.max_C) for one in classes]
        ).reshape(-1, 3)
        rows = each[self.heat_classes]
        after[: self.satellites], recommended[: self.satellites], highest[: self.satellites] = rows.T
        return after, recommended, highest

    def positions_km(self, t: int) -> Floats:
        """On the case's sphere, ``(nodes, 3)``."""
        shot = self.document.snapshots[str(t)]
        radius = self.document.link_model.earth_radius_km
        ground = self.document.nodes.terrestrial
        latitude = np.radians(np.r_[np.array(shot.sat_lat_e4) / 1e4, [one.lat for one in ground]])
        longitude = np.radians(np.r_[np.array(shot.sat_lon_e4) / 1e4, [one.lon for one in ground]])
        distance = radius + np.r_[np.array(shot.sat_alt_m) / 1e3, np.zeros(len(ground))]
        return np.column_stack(
            [
                distance * np.cos(latitude) * np.cos(longitude),
                distance * np.cos(latitude) * np.sin(longitude),
                distance * np.sin(latitude),
            ]
        )

    def graph(self, t: int) -> Graph:
        """The network at decision time ``t``, latencies in ms one way."""
        planes, slots = self.document.orbits.planes, self.document.orbits.sats_per_plane
        plane, slot = np.divmod(np.arange(self.satellites), slots)
        a = np.tile(np.arange(self.satellites), 2)
        b = np.r_[plane * slots + (slot + 1) % slots, (plane + 1) % planes * slots + slot]
        places = self.positions_km(t)
        weights = (
            np.linalg.norm(places[a] - places[b], axis=1) / self.document.link_model.signal_speed_km_per_ms
        )
        links = np.array(self.document.snapshots[str(t)].ground_links, dtype=np.float64).reshape(-1, 3)
        ground, satellite = links[:, 0].astype(np.int64), links[:, 1].astype(np.int64)
        return Graph(
            self.nodes, np.r_[a, ground], np.r_[b, satellite], np.r_[weights, links[:, 2]]
        )  # as the original: routes may lead through a terrestrial node, which has one link only

    @cached_property
    def times(self) -> list[int]:
        """All decision times."""
        return sorted({t for one in self.document.instances for t in one.decision_times.values()})


def case_of(document: CaseDocument | dict[str, Any]) -> Case:
    """A checked case. Raises BadRequest."""
    if isinstance(document, dict):
        try:
            document = msgspec.convert(document, CaseDocument)
        except UNDECODABLE as error:
            raise _refuse(str(error)) from error
    _check(document)
    return Case(document)


def read_case(path: Path) -> Case:
    """The case in a file, gzipped or not. Raises BadRequest for what is none, or cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
        if data[:2] == b"\x1f\x8b":
            unpacked = zlib.decompressobj(31)
            data = unpacked.decompress(data, _FILE_BYTES_MAX + 1)
            if not unpacked.eof and len(data) <= _FILE_BYTES_MAX:
                raise _refuse(f"{path} is cut off")
    except (OSError, gzip.BadGzipFile, zlib.error) as error:
        raise _refuse(f"{path}: {error}") from error
    if len(data) > _FILE_BYTES_MAX:
        raise _refuse(f"{path} is over {_FILE_BYTES_MAX >> 20} MiB")
    try:
        document = msgspec.json.decode(data, type=CaseDocument)
    except UNDECODABLE as error:
        raise _refuse(f"{path}: {error}") from error
    return case_of(document)
