"""What a daemon needs that is a satellite in a mesh: keys, orbits, predicted contacts, another member.

- ``idle-rss-mesh``: resident memory, nothing deployed, 3 s after it and a ground station know each other and have
  predicted their contacts.
"""

from __future__ import annotations

import datetime
import http.client
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeagent.bench.daemon import daemon
from edgeagent.bench.harness import Bench, Case, Sample, Sampler
from edgeagent.bench.processes import ServerFailed, free_port, memory_kib
from edgeagent.mesh.authority import issue_node, make_cluster

__all__ = ["idle_mesh_case"]

IDLE_S = 3.0
_MEET_S = 60.0
_LOOK_S = 0.1
_IDS = {"ground": "a" * 32, "flying": "b" * 32}


def _elements(now: datetime.datetime) -> str:
    """A satellite of no particular place, its elements as new as can be."""
    return json.dumps(
        [
            {
                "OBJECT_NAME": "BENCH", "OBJECT_ID": "2026-001A", "EPOCH": now.strftime("%Y-%m-%dT%H:%M:%S.000000"),
                "MEAN_MOTION": 15.2, "ECCENTRICITY": 0.0005, "INCLINATION": 53.0, "RA_OF_ASC_NODE": 100.0,
                "ARG_OF_PERICENTER": 80.0, "MEAN_ANOMALY": 10.0, "EPHEMERIS_TYPE": 0, "CLASSIFICATION_TYPE": "U",
                "NORAD_CAT_ID": 90001, "ELEMENT_SET_NO": 1, "REV_AT_EPOCH": 1, "BSTAR": 0.0001,
                "MEAN_MOTION_DOT": 0.0, "MEAN_MOTION_DDOT": 0.0,
            }
        ]
    )  # fmt: skip


def _prepared(folder: Path) -> dict[str, dict[str, str]]:
    """Keys, node ids and element set; returns the environment of both daemons."""
    now = datetime.datetime.now(datetime.UTC)
    make_cluster(folder / "cluster", "bench", b"s" * 32, now)
    (folder / "gp.json").write_text(_elements(now), encoding="utf-8")
    seed = f"127.0.0.1:{free_port()}"
    own = {
        "ground": {"EDGEAGENT_MESH_LISTEN": seed, "EDGEAGENT_MESH_POSITION": "48.2, 16.4, 171"},
        "flying": {
            "EDGEAGENT_MESH_LISTEN": "127.0.0.1:0",
            "EDGEAGENT_MESH_SEEDS": seed,
            "EDGEAGENT_MESH_ORBIT": str(folder / "gp.json"),
        },
    }
    for name, id_ in _IDS.items():
        issue_node(folder / "cluster", folder / f"{name}-keys", id_, (), now)
        (folder / name / "state").mkdir(mode=0o700, parents=True)
        (folder / name / "state" / "node-id").write_text(f"{id_}\n", encoding="ascii")
        own[name]["EDGEAGENT_MESH_KEYS"] = str(folder / f"{name}-keys")
    return own


def _peers(port: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/v1/peers")
        view: dict[str, Any] = json.loads(connection.getresponse().read())
        return view
    finally:
        connection.close()


def _wait_met(port: int) -> None:
    end_s = time.monotonic() + _MEET_S
    while time.monotonic() < end_s:
        view = _peers(port)
        met = [one["state"] for one in view.get("peers", ())] == ["alive"]  # none while it starts
        if met and view["predicted_until"]:
            return
        time.sleep(_LOOK_S)
    raise ServerFailed(f"two daemons did not meet in {_MEET_S:g} s")


@contextmanager
def _open(_bench: Bench) -> Iterator[dict[str, Sampler]]:
    def sampler() -> Sample:
        with tempfile.TemporaryDirectory(prefix="edgeagent-bench-") as name:
            folder = Path(name)
            own = _prepared(folder)
            with (
                daemon(folder / "ground", more=own["ground"]),
                daemon(folder / "flying", more=own["flying"]) as process,
            ):
                _wait_met(process.port)
                time.sleep(IDLE_S)
                memory = memory_kib(process.pid)
        return memory["Rss"] / 1024, {
            "pss_mib": memory["Pss"] / 1024,
            "private_mib": memory["Private"] / 1024,
        }

    yield {"ours": sampler}


def idle_mesh_case() -> Case:
    return Case(
        name="idle-rss-mesh",
        unit="MiB",
        better="lower",
        open=_open,
        params={"idle_s": IDLE_S, "members": 2, "keys": True},
        rounds=3,
        rounds_full=7,
        warm_up_rounds=0,
        memory_bytes=512 << 20,
    )
