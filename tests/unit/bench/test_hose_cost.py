"""What work costs, here and in another process."""

from __future__ import annotations

import mmap
import subprocess
import sys

import pytest

from edgeagent.bench.hose_cost import Cost

_CHILD = """
import mmap, sys
print(flush=True)
sys.stdin.readline()
memory = mmap.mmap(-1, 8 << 20)
for at in range(0, len(memory), 4096):
    memory[at] = 1
print(sum(range(2_000_000)), flush=True)
sys.stdin.readline()
"""


def touch(count: int) -> None:
    with mmap.mmap(-1, count) as memory:
        for at in range(0, count, 4096):
            memory[at] = 1


def test_the_first_touch_of_pages_is_counted() -> None:
    cost = Cost()
    touch(4 << 20)
    wall_ms, more = cost.spent()
    assert wall_ms > 0
    assert more["cpu_ms"] > 0
    assert more["minor_faults"] > 0  # as many as pages, or fewer with large ones


def test_repetitions_share_it() -> None:
    cost = Cost()
    for _ in range(4):
        touch(1 << 20)
    _, once = cost.spent()
    _, each = cost.spent(4)
    assert each["minor_faults"] < once["minor_faults"]


def test_other_processes_count_too() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        here, both = Cost(), Cost(child.pid)
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
        _, of_both = both.spent()
        _, of_one = here.spent()
        child.stdin.close()
    assert of_both["cpu_ms"] > of_one["cpu_ms"] + 5
    assert of_both["minor_faults"] > of_one["minor_faults"]


def test_a_process_that_is_gone_is_an_error() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    with pytest.raises(OSError):  # noqa: PT011 - ESRCH or EINVAL, as the system names it
        Cost(child.pid)
