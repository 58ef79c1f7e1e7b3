"""The store under SIGKILL and on a disk that is really full."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgeagent.model.errors import StorageFull
from edgeagent.state.store import Store

ROOT = Path(__file__).parents[2]
WRITER = """
import asyncio, sys
from pathlib import Path
from edgeagent.state.store import Store

async def writer(store, first):
    for n in range(first, 1 << 30, 8):
        await store.write(lambda c: c.execute("INSERT INTO code_index VALUES (?, ?)", (f"{n:09d}", "x" * 100)))
        print(n, flush=True)

async def main():
    store = Store(Path(sys.argv[1]))
    await store.open()
    first = int(sys.argv[2])
    print("open", flush=True)
    await asyncio.gather(*(writer(store, first + n) for n in range(8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("seed", range(3))
def test_what_was_acknowledged_before_sigkill_is_there(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "db"
    acknowledged: set[int] = set()
    for round_ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(round_ * 1_000_000)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            killer = threading.Timer(chance.uniform(0.01, 0.2), process.kill)
            killer.start()
            for line in process.stdout:
                if line.endswith("\n"):
                    acknowledged.add(int(line))
            killer.join()

    async def check() -> None:
        store = Store(path)
        await store.open()
        rows = await store.read(lambda c: c.execute("SELECT key FROM code_index").fetchall())
        assert acknowledged <= {int(row[0]) for row in rows}
        await store.close()

    asyncio.run(check())
    assert acknowledged


def test_a_file_system_that_is_full(tmp_path: Path) -> None:
    """Where a small file system can be mounted (a user namespace will do); the child reports what it saw."""
    program = ["unshare", "--user", "--map-root-user", "--mount"]
    probe = [*program, "mount", "-t", "tmpfs", "-o", "size=2m", "none", str(tmp_path)]
    try:
        mounted = subprocess.run(probe, capture_output=True, check=False, timeout=20)
    except FileNotFoundError:
        pytest.skip("unshare is not here")
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    script = f"mount -t tmpfs -o size=2m none {tmp_path} && exec {sys.executable} -m {__name__} {tmp_path}/db"
    if "." not in __name__:
        script = script.replace(f"-m {__name__}", str(Path(__file__)))
    done = subprocess.run(
        [*program, "sh", "-c", script],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == "ok\n", done.stderr


async def _fill(path: Path) -> None:
    store = Store(path)
    await store.open()

    def put(number: int) -> asyncio.Future[int]:
        def work(connection: sqlite3.Connection) -> int:
            return connection.execute(
                "INSERT INTO code_index VALUES (?, ?)", (f"{number}", "x" * 10_000)
            ).rowcount

        return asyncio.ensure_future(store.write(work))

    done = 0
    for number in range(1000):
        try:
            done += await put(number)
        except StorageFull:
            break
    else:
        raise AssertionError("the disk never filled")
    kept = await store.read(lambda c: c.execute("SELECT count(*) FROM code_index").fetchone()[0])
    assert kept == done, (kept, done)
    path.with_name("ballast").unlink()  # space returns
    assert await put(5000) == 1
    await store.close()
    store = Store(path)
    await store.open()
    assert await store.read(lambda c: c.execute("SELECT count(*) FROM code_index").fetchone()[0]) == done + 1
    await store.close()


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.with_name("ballast").write_bytes(b"\0" * 1_200_000)
    asyncio.run(_fill(target))
    print("ok")  # noqa: T201 - the answer
