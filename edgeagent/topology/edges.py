"""Undirected links as three arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Edges", "edges_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Edges:
    """Links ``a[i]`` - ``b[i]`` of ``length_km[i]``, a < b, each once, sorted by a, then b."""

    a: Ints
    b: Ints
    length_km: Floats

    def __len__(self) -> int:
        return len(self.a)

    def degrees(self, nodes: int) -> NDArray[np.intp]:
        """How many links each of ``nodes`` nodes has."""
        return np.bincount(np.concatenate([self.a, self.b]), minlength=nodes)

    @property
    def total_km(self) -> float:
        """The sum of all lengths."""
        return float(self.length_km.sum())


def edges_of(triples: Iterable[tuple[float, int, int]]) -> Edges:
    """Of (squared length, one end, other end), in any order, each pair at most once."""
    rows = sorted((min(i, j), max(i, j), d2) for d2, i, j in triples)
    return Edges(
        np.array([row[0] for row in rows], dtype=np.int32),
        np.array([row[1] for row in rows], dtype=np.int32),
        np.sqrt(np.array([row[2] for row in rows], dtype=np.float64)),
    )
