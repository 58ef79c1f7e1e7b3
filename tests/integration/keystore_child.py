"""Writers on a key store that are killed at any instruction: started by test_keystore_kill.py.

One process forks a child for each kill, so that a kill costs no start of an interpreter. A child writes groups to
slots, each by one writer: three small values and one in chunks, all of the same number. It says what was acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from pathlib import Path

from edgeagent.state.calls import Op
from edgeagent.state.entry import Mode
from edgeagent.state.keystore import KeyStore
from edgeagent.state.keystore_types import KeyBounds

SLOTS = 6
MEMBERS = ("a", "b", "c", "big")
BOUNDS = KeyBounds(bytes_max=64 << 20, inbound_bytes=0, segment_bytes=2 << 20)


def value(slot: int, number: int, member: str) -> bytes:
    size = 70_000 + number % 7 * 50_000 if member == "big" else 100 + number % 900
    return f"{number:012d}".encode() + random.Random(f"{slot} {number}").randbytes(size)


def opened(directory: Path) -> KeyStore:
    return KeyStore(directory, BOUNDS, node="n1", utc_ms=lambda: time.time_ns() // 1_000_000)


async def _writer(store: KeyStore, slot: int, first: int, out: int) -> None:
    for number in range(first, 1 << 40):
        ops = [Op(op="put", key=f"{slot}/{one}", value=value(slot, number, one)) for one in MEMBERS]
        await store.write(ops, lambda _: Mode.LWW)
        os.write(out, f"{slot} {number}\n".encode())


async def _sweeper(store: KeyStore) -> None:
    while True:
        await store.sweep()
        await store.scrub(1 << 16)
        await asyncio.sleep(0.002)


async def _child(directory: Path, first: int, out: int) -> None:
    store = opened(directory)
    await store.open()
    os.write(out, b"open\n")
    await asyncio.gather(_sweeper(store), *(_writer(store, slot, first, out) for slot in range(SLOTS)))


async def _check(directory: Path, acknowledged: dict[int, int]) -> tuple[int, int]:
    """How many slots have lost what was acknowledged, and how many groups are torn."""
    store = opened(directory)
    await store.open()
    lost = torn = 0
    for slot, number in acknowledged.items():
        found = [await store.get(f"{slot}/{one}") for one in MEMBERS]
        values = [b"" if one is None else one[1] for one in found]
        numbers = {int(one[:12] or b"-1") for one in values}
        whole = [value(slot, min(numbers), one) for one in MEMBERS]
        torn += values != whole
        lost += min(numbers) < number
    report = await store.scrub(1 << 40)
    assert not report.damaged, report
    await store.close()
    return lost, torn


def _round(directory: Path, first: int, chance: random.Random, acknowledged: dict[int, int]) -> int:
    groups = 0
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        asyncio.run(_child(directory, first, write))
        os._exit(1)
    os.close(write)
    with os.fdopen(read) as lines:
        # In some rounds it dies while it opens; when is by chance, nothing is waited for.
        told = [lines.readline() for _ in range(chance.choice((0, 1, 2, 4, 8, 16)))]
        time.sleep(chance.uniform(0, 0.03))
        os.kill(pid, signal.SIGKILL)
        for line in [*told, *lines]:
            if line.endswith("\n") and line != "open\n":
                slot, number = line.split()
                acknowledged[int(slot)] = int(number)
                groups += 1
    os.waitpid(pid, 0)
    return groups


def main(directory: Path, kills: int) -> None:
    chance = random.Random(kills)
    acknowledged: dict[int, int] = {}
    lost = torn = groups = 0
    for number in range(kills):
        groups += _round(directory, number * 1_000_000, chance, acknowledged)
        if number % 10 == 9 or number == kills - 1:
            more_lost, more_torn = asyncio.run(_check(directory, acknowledged))
            lost, torn = lost + more_lost, torn + more_torn
    print(f"kills {kills} slots {len(acknowledged)} lost {lost} torn {torn}")  # noqa: T201 - the answer
    print(f"{groups} groups acknowledged", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
