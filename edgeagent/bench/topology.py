"""The benchmark ``topology``: links and routes of 20,646 satellites, CPU time, against the same over scipy.

The satellites are 31 planes of 222 in three shells, a kilometre of noise on each, so that nothing is as regular as a
generated shell. Baselines are what one builds from scipy's parts: a KD-tree for neighbours, all pairs in range and
their minimum spanning tree, and its Dijkstra. Each is compared with ours before anything is timed, as far as it
computes the same: its neighbours are not granted by terminals, and it tests no sight.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgeagent.bench.harness import Bench, Case, CaseSkipped, Sample, Sampler

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeagent.topology.graph import Graph

__all__ = ["cases"]

PLANES, SLOTS = 31, 222
RANGE_KM = 2126.0
SATELLITES = 3 * PLANES * SLOTS
STATIONS = 85


def _timed(work: Callable[[], object]) -> Sampler:
    """CPU milliseconds of one call."""

    def sample() -> Sample:
        begun = time.process_time_ns()
        work()
        return (time.process_time_ns() - begun) / 1e6, {}

    return sample


def _places() -> NDArray[np.float64]:
    """Positions ``(20646, 3)``, km."""
    import numpy as np

    shells = []
    for altitude_km, tilt_deg in ((540.0, 53.2), (550.0, 53.0), (570.0, 70.0)):
        plane, slot = np.divmod(np.arange(PLANES * SLOTS), SLOTS)
        along = 2 * np.pi * (slot / SLOTS + 17 * plane / (PLANES * SLOTS))
        node, tilt = 2 * np.pi * plane / PLANES, np.radians(tilt_deg)
        x, y, z = np.cos(along), np.sin(along) * np.cos(tilt), np.sin(along) * np.sin(tilt)
        turned = [np.cos(node) * x - np.sin(node) * y, np.sin(node) * x + np.cos(node) * y, z]
        shells.append((6378.137 + altitude_km) * np.stack(turned, axis=1))
    random = np.random.default_rng(1)
    return np.asarray(np.concatenate(shells) + random.normal(0.0, 1.0, (SATELLITES, 3)))


def _scipy(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _links(protocol: str) -> Callable[[], Any]:
    from edgeagent.topology.protocols import IslSettings, isl_links

    places = _places()
    settings = IslSettings(protocol=protocol)
    return lambda: isl_links(places, settings)


@contextmanager
def _nearest(bench: Bench) -> Iterator[dict[str, Sampler]]:
    samplers = {"ours": _timed(_links("nearest"))}
    spatial = _scipy("scipy.spatial")
    if spatial is None:
        bench.skip("scipy", "scipy is not installed")
    else:
        places = _places()
        samplers["scipy-kdtree"] = _timed(lambda: spatial.cKDTree(places).query(places, k=5))
    yield samplers


@contextmanager
def _mst(bench: Bench) -> Iterator[dict[str, Sampler]]:
    ours = _links("mst")
    samplers = {"ours": _timed(ours)}
    spatial, csgraph, sparse = (_scipy(f"scipy.{name}") for name in ("spatial", "sparse.csgraph", "sparse"))
    if spatial is None:
        bench.skip("scipy", "scipy is not installed")
    else:
        places = _places()

        def theirs() -> Any:
            tree = spatial.cKDTree(places)
            pairs = tree.sparse_distance_matrix(tree, RANGE_KM, output_type="coo_matrix")
            return csgraph.minimum_spanning_tree(sparse.csr_matrix(pairs))

        total_km = float(theirs().sum())
        if abs(total_km - ours().total_km) > 1e-6 * total_km:
            raise CaseSkipped("the baseline finds another tree")
        samplers["scipy-range-graph"] = _timed(theirs)
    yield samplers


def _graph() -> Graph:
    """The nearest links of the satellites, weighted by latency."""
    from edgeagent.topology.graph import Graph
    from edgeagent.topology.links import LinkKind, latency_ms

    links = _links("nearest")()
    return Graph(SATELLITES, links.a, links.b, latency_ms(links.length_km, LinkKind.ISL))


def _routes(sources: int) -> Any:
    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        import numpy as np

        graph = _graph()
        rows = np.linspace(0, SATELLITES - 1, sources).astype(np.int32)
        samplers = {"ours": _timed(lambda: graph.many(rows))}
        csgraph, sparse = _scipy("scipy.sparse.csgraph"), _scipy("scipy.sparse")
        if csgraph is None:
            bench.skip("scipy", "scipy is not installed")
        else:
            matrix = sparse.csr_matrix((graph.weights, graph.indices, graph.indptr), shape=(SATELLITES,) * 2)
            if not np.allclose(csgraph.dijkstra(matrix, indices=rows), graph.many(rows), rtol=0, atol=1e-9):
                raise CaseSkipped("the baseline finds other distances")
            samplers["scipy-dijkstra"] = _timed(lambda: csgraph.dijkstra(matrix, indices=rows))
        yield samplers

    return opened


@contextmanager
def _within(bench: Bench) -> Iterator[dict[str, Sampler]]:
    """The hundred nearest nodes of one, which is what a placement asks."""
    graph = _graph()
    samplers = {"ours": _timed(lambda: graph.within(7, 1e9, count_max=100))}
    csgraph, sparse = _scipy("scipy.sparse.csgraph"), _scipy("scipy.sparse")
    if csgraph is None:
        bench.skip("scipy", "scipy is not installed")
    else:
        matrix = sparse.csr_matrix((graph.weights, graph.indices, graph.indptr), shape=(SATELLITES,) * 2)
        samplers["scipy-dijkstra-all"] = _timed(
            lambda: csgraph.dijkstra(matrix, indices=7).argpartition(100)[:101]
        )
    yield samplers


def cases() -> list[Case]:
    nodes = {"satellites": SATELLITES}

    def case(name: str, opener: Any, **params: Any) -> Case:
        return Case(name=name, unit="CPU ms", better="lower", open=opener, params={**nodes, **params})

    return [
        case(f"nearest-{SATELLITES}", _nearest, neighbours=4),
        case(f"mst-{SATELLITES}", _mst, range_km=RANGE_KM),
        case(f"sssp-{SATELLITES}", _routes(1), sources=1),
        case(f"sssp-{SATELLITES}x{STATIONS}", _routes(STATIONS), sources=STATIONS),
        case(f"within-{SATELLITES}", _within, count_max=100),
    ]
