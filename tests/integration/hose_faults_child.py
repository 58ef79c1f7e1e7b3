"""A process whose system runs out of something while functions hand each other data; prints what came of it as JSON.

``python hose_faults_child.py FAULT``: maps, memory, files, file-size, no-thp.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import resource
import sys
from collections.abc import Iterator
from typing import Any

from edgeagent.bench.hose_guests import expected_sum, request
from edgeagent.bench.hose_rig import Side, opened_rig
from edgeagent.hose.settings import TIERS
from tests.integration.exhausted import limited, no_mappings, used_bytes

MIB = 1 << 20
SIZES = (4096, 300_032, 2 * MIB, 6 * MIB + 4096)
PR_SET_THP_DISABLE = 41


@contextlib.contextmanager
def no_thp() -> Iterator[None]:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0
    yield
    assert libc.prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0) == 0


def fault(name: str) -> Any:
    match name:
        case "maps":
            return no_mappings()
        case "memory":
            return limited(resource.RLIMIT_AS, used_bytes() + 2 * MIB)
        case "files":
            return limited(resource.RLIMIT_NOFILE, 3)  # those that are open stay
        case "file-size":
            return limited(resource.RLIMIT_FSIZE, 4096)
        case _:
            return no_thp()


def tried(side: Side, count: int, *, lent: bool) -> str:
    """The tier that carried it; the typed error where it could not be."""
    made = side.produce.call(request(count, lent=lent), keep=True)
    if made.error is not None:
        return made.error.slug
    given = made.payload or made.output
    try:
        taken = side.consume.call(given)
    finally:
        if made.payload is not None:
            made.payload.close()
    if taken.error is not None:
        return taken.error.slug
    assert bytes(taken.output) == expected_sum(count), "other bytes arrived"
    return TIERS[taken.hose[0]]


def main() -> None:
    with opened_rig() as rig:
        side = rig.ours
        before = [tried(side, count, lent=lent) for count in SIZES for lent in (True, False)]
        side.empty()
        with fault(sys.argv[1]):
            during = [tried(side, count, lent=lent) for count in SIZES for lent in (True, False)]
        side.empty()
        after = [tried(side, count, lent=lent) for count in SIZES for lent in (True, False)]
        sys.stdout.write(json.dumps({"before": before, "during": during, "after": after}))


main()
