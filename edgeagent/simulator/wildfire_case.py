"""A placement case of the form ``hyperdrive-wildfire-case/1``: nodes, a chain of tasks, the network of each decision.

The form and its rules are those of HyperDrive's wildfire scenario (arXiv:2410.16026): latencies are straight distances
over one signal speed, satellites hold a +grid that closes over the last plane, and every terrestrial node has one
antenna, to its nearest satellite. Tasks never give back what they take. Heat is the original's estimate, a formula of
the task's duration alone.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.simulator.wildfire_document import (
    CASE_FORMAT,
    CaseDocument,
    Instance,
    Task,
    read_document,
    refuse,
)
from edgeagent.topology.graph import Graph

__all__ = ["CASE_FORMAT", "Case", "CaseDocument", "Instance", "Task", "case_of", "read_case"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_FILE_BYTES_MAX = 256 << 20


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
    return Case(read_document(document))


def read_case(path: Path) -> Case:
    """The case in a file, gzipped or not. Raises BadRequest for what is none, or cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
        if data[:2] == b"\x1f\x8b":
            unpacked = zlib.decompressobj(31)
            data = unpacked.decompress(data, _FILE_BYTES_MAX + 1)
            if not unpacked.eof and len(data) <= _FILE_BYTES_MAX:
                raise refuse(f"{path} is cut off")
    except (OSError, gzip.BadGzipFile, zlib.error) as error:
        raise refuse(f"{path}: {error}") from error
    if len(data) > _FILE_BYTES_MAX:
        raise refuse(f"{path} is over {_FILE_BYTES_MAX >> 20} MiB")
    try:
        document = msgspec.json.decode(data, type=CaseDocument)
    except UNDECODABLE as error:
        _find_number_that_is_none(data)
        raise refuse(f"{path}: {error}") from error
    return case_of(document)


def _find_number_that_is_none(data: bytes) -> None:
    """JSON has no NaN and no infinity, but writers of it do: where one is a field's value, refuse it by the field."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(document, dict):
        case_of(document)
