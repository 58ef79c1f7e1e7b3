"""Data of runs by content: durable, bounded, checked when read, collected with care."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edgeagent.model.errors import Internal, NotFound, StorageFull, StoreFailed
from edgeagent.state.blobs import Blobs


def with_blobs(
    path: Path, scenario: Callable[[Blobs], Awaitable[None]], bytes_max: int = 1000, grace_s: float = 600
) -> None:
    asyncio.run(scenario(Blobs(path, bytes_max, grace_s=grace_s)))  # type: ignore[arg-type]


def files(path: Path) -> list[str]:
    return sorted(one.name for one in path.glob("*/*"))


def test_what_was_put_is_got_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    digest = hashlib.sha256(b"data").hexdigest()

    async def put(blobs: Blobs) -> None:
        assert not await blobs.has(digest)
        assert await blobs.put(b"data") == digest
        assert await blobs.put(memoryview(b"data")) == digest
        assert blobs.usage_bytes() == 4
        await blobs.put(b"")

    async def get(blobs: Blobs) -> None:
        assert await blobs.has(digest)
        assert await blobs.get(digest) == b"data"
        assert blobs.usage_bytes() == 4

    with_blobs(path, put)
    assert path.stat().st_mode & 0o077 == 0
    with_blobs(path, get)


def test_names_that_are_none(tmp_path: Path) -> None:
    async def scenario(blobs: Blobs) -> None:
        with pytest.raises(Internal):
            await blobs.get("../../etc/passwd")
        with pytest.raises(NotFound):
            await blobs.get("0" * 64)

    with_blobs(tmp_path, scenario)


def test_what_is_damaged_is_never_returned_and_written_again(tmp_path: Path) -> None:
    async def scenario(blobs: Blobs) -> None:
        digest = await blobs.put(b"data")
        path = tmp_path / digest[:2] / digest
        path.write_bytes(b"dat")
        with pytest.raises(StoreFailed, match="damaged"):
            await blobs.get(digest)
        assert await blobs.put(b"data") == digest
        assert await blobs.get(digest) == b"data"

    with_blobs(tmp_path, scenario)


def test_beyond_its_bound_nothing_is_written(tmp_path: Path) -> None:
    async def scenario(blobs: Blobs) -> None:
        first = await blobs.put(b"123456")
        with pytest.raises(StorageFull, match="6 of 10"):
            await blobs.put(b"abcde")
        assert await blobs.put(b"123456") == first, "what is there already needs no room"
        assert files(tmp_path) == [first]
        await blobs.put(b"abcd")
        assert blobs.usage_bytes() == 10

    with_blobs(tmp_path, scenario, bytes_max=10)


def test_the_same_data_put_at_once_is_counted_once(tmp_path: Path) -> None:
    async def scenario(blobs: Blobs) -> None:
        digests = await asyncio.gather(*[blobs.put(b"data") for _ in range(8)])
        assert len(set(digests)) == 1
        assert blobs.usage_bytes() == 4
        assert files(tmp_path) == [digests[0]]

    with_blobs(tmp_path, scenario)


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EIO, StoreFailed)]
)
def test_a_disk_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    async def scenario(blobs: Blobs) -> None:
        def refuse(_: int) -> None:
            raise OSError(code, os.strerror(code))

        await blobs.put(b"before")
        with monkeypatch.context() as broken:
            broken.setattr("edgeagent.state.blobs.os.fsync", refuse)
            with pytest.raises(kind):
                await blobs.put(b"data")
        assert blobs.usage_bytes() == 6
        assert len(files(tmp_path)) == 1, "nothing is left behind"
        await blobs.put(b"data")

    with_blobs(tmp_path, scenario)


def test_a_place_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreFailed, match="cannot use"):
        Blobs(tmp_path / "file", 10)

    async def scenario(blobs: Blobs) -> None:
        digest = await blobs.put(b"data")
        path = tmp_path / "d" / digest[:2] / digest
        path.unlink()
        path.mkdir()
        with pytest.raises(StoreFailed):
            await blobs.get(digest)
        with pytest.raises(StoreFailed):
            await blobs.put(b"data")
        with pytest.raises(StoreFailed):
            await blobs.collect(set())

    with_blobs(tmp_path / "d", scenario, grace_s=0)


def test_collect_leaves_what_is_kept_or_recent(tmp_path: Path) -> None:
    async def scenario(blobs: Blobs) -> None:
        kept, old, again = [await blobs.put(data) for data in (b"kept", b"old", b"again")]
        fresh = await blobs.put(b"fresh")
        torn = tmp_path / old[:2] / ".tmp-0"
        torn.write_bytes(b"half")
        for path in (torn, *(tmp_path / one[:2] / one for one in (kept, old, again))):
            os.utime(path, (0, 0))
        await blobs.put(b"again")
        assert await blobs.collect({kept}) == 2
        assert set(files(tmp_path)) == {kept, again, fresh}
        assert blobs.usage_bytes() == len(b"keptagainfresh")

    with_blobs(tmp_path, scenario)


def test_what_goes_meanwhile_is_no_fault(tmp_path: Path) -> None:
    async def scenario(blobs: Blobs) -> None:
        digest = await blobs.put(b"data")
        path = tmp_path / digest[:2] / digest
        path.unlink()
        assert not blobs._is_old(path)
        blobs._remove(path)
        assert blobs.usage_bytes() == 4

    with_blobs(tmp_path, scenario, grace_s=0)
