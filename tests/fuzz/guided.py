"""Coverage-guided fuzzing with atheris (libFuzzer): what a node takes from strangers is a value or a typed error.

    python -m tests.fuzz.guided packets -max_total_time=60

``packets`` feeds a member that has friends, ``frames`` its streams, ``elements`` the readers of orbital elements; each
begins with good samples. What stands after the target is libFuzzer's: its options, and directories of more samples.
Inputs that break something are written to crash-* files; a file's name in the place of the options replays it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris
import structlog

with atheris.instrument_imports(include=["edgeagent", "msgspec"]):
    from edgeagent.gossip.codec import Kind, encode_packet
    from edgeagent.orbit.errors import ElementsRefused
    from edgeagent.orbit.importer import read_elements
    from tests.fuzz.mesh_packets import good_frames, good_packets
    from tests.unit.gossip.parts import driver, identity

__all__ = ["main"]

_MEMBERS_MAX = 64
_SAMPLES = 200
_TLE = """ISS (ZARYA)
1 25544U 98067A   24295.18541667  .00016717  00000-0  30000-3 0  9996
2 25544  51.6400 100.0000 0007000  60.0000 300.0000 15.50000000478900
"""
_OMM = """{"OBJECT_NAME": "A", "OBJECT_ID": "1998-067A", "EPOCH": "2024-10-21T04:27:00", "MEAN_MOTION": 15.5,
"ECCENTRICITY": 0.0007, "INCLINATION": 51.64, "RA_OF_ASC_NODE": 100, "ARG_OF_PERICENTER": 60, "MEAN_ANOMALY": 300,
"NORAD_CAT_ID": 25544, "BSTAR": 0.0003, "MEAN_MOTION_DOT": 0.00016, "MEAN_MOTION_DDOT": 0}"""


class _Member:
    """A member with friends, replaced now and then so that what one input left does not pile up."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.one = driver("me")
        for name in ("a", "b", "c"):
            self.one.receive(f"{name}:1", encode_packet(Kind.GOSSIP, name, 0, "", [identity(name).blob]))
        self.inputs = 0

    def _next(self) -> None:
        self.inputs += 1
        if self.inputs == 1000 or len(self.one.mesh.states()) > _MEMBERS_MAX:
            self._begin()

    def packet(self, data: bytes) -> None:
        self._next()
        self.one.receive("a:1", data)
        self.one.run(0.3)

    def frame(self, data: bytes) -> None:
        self._next()
        self.one.take(self.one.mesh.on_stream(self.one.now_s, ("in", self.inputs % 8), data))
        self.one.run(0.3)


def _elements(data: bytes) -> None:
    with contextlib.suppress(ElementsRefused):
        read_elements(data, refused=[])


def _targets() -> dict[str, Callable[[bytes], None]]:
    member = _Member()
    return {"packets": member.packet, "frames": member.frame, "elements": _elements}


def _samples(target: str) -> list[bytes]:
    chance = random.Random(1)
    match target:
        case "packets":
            return good_packets(_SAMPLES, chance)
        case "frames":
            return good_frames(_SAMPLES, chance)
        case _:
            fields = json.loads(_OMM)
            csv = f"{','.join(fields)}\n{','.join(str(value) for value in fields.values())}\n"
            kvn = "CCSDS_OMM_VERS = 2.0\n" + "".join(f"{key} = {value}\n" for key, value in fields.items())
            xml = "".join(f"<{key}>{value}</{key}>" for key, value in fields.items())
            return [text.encode() for text in (_TLE, _OMM, csv, kvn, f"<omm><body>{xml}</body></omm>")]


def main() -> int:
    targets = _targets()
    if len(sys.argv) < 2 or sys.argv[1] not in targets:
        sys.stderr.write(f"usage: python -m tests.fuzz.guided {{{','.join(targets)}}} [libFuzzer options]\n")
        return 2
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory() as directory:
        for number, sample in enumerate(_samples(sys.argv[1])):
            (Path(directory) / str(number)).write_bytes(sample)
        replayed = any(Path(option).is_file() for option in sys.argv[2:])
        corpus = [] if replayed else [directory]
        atheris.Setup([sys.argv[0], *corpus, *sys.argv[2:]], targets[sys.argv[1]])
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
