"""Artifacts and the code cache: durable, checked before every load, rebuilt when anything is wrong with them."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edgeagent.model.errors import NotFound, StorageFull, StoreFailed, WasmRefused
from edgeagent.runtime.artifacts import ArtifactStore
from edgeagent.runtime.compiler import Compiler
from edgeagent.runtime.engine_config import Settings
from tests.descriptors import left_open, open_descriptors
from tests.guests import wasm

ROOT = Path(__file__).resolve().parents[3]


class Index:
    """A CodeIndex in memory."""

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}

    async def get(self, key: str) -> str | None:
        return self.digests.get(key)

    async def put(self, key: str, sha256: str) -> None:
        self.digests[key] = sha256

    async def drop(self, key: str) -> None:
        self.digests.pop(key, None)


def _with_store(
    tmp_path: Path, work: Callable[[ArtifactStore, Index], Awaitable[None]], quota_bytes: int = 1 << 20
) -> None:
    async def main() -> None:
        index = Index()
        store = ArtifactStore(tmp_path / "artifacts", tmp_path / "code", Compiler(), index, quota_bytes)
        await work(store, index)

    asyncio.run(main())


def _cached(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "code").glob("*.cwasm"))


@pytest.mark.parametrize("refused", ["os.memfd_create", "fcntl.fcntl"])
def test_without_sealed_memfds_code_is_loaded_from_a_file_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EPERM, "refused")

    async def work(store: ArtifactStore, index: Index) -> None:
        digest = await store.put(wasm("add1"))
        before = open_descriptors()
        with monkeypatch.context() as patch:
            patch.setattr(refused, refuse)
            code, _ = await store.code(digest, Settings())
        (cached,) = _cached(tmp_path)
        loaded = await asyncio.to_thread(Path(code.path).read_bytes)
        assert loaded == cached.read_bytes()
        assert [path.name for path in (tmp_path / "code").iterdir()] == [cached.name]
        assert not any("edge-code" in name for name in left_open(before))

    _with_store(tmp_path, work)


def test_stored_by_digest_and_compiled_once(tmp_path: Path) -> None:
    async def work(store: ArtifactStore, index: Index) -> None:
        digest = await store.put(wasm("add1"))
        assert digest == hashlib.sha256(wasm("add1")).hexdigest()
        assert store.path(digest).read_bytes() == wasm("add1")
        assert await store.put(wasm("add1")) == digest
        assert store.usage_bytes() == len(wasm("add1"))
        code, info = await store.code(digest, Settings())
        assert info is not None
        assert info.abi == "bytes"
        assert code.path.startswith("/proc/self/fd/"), "sealed: what was checked is what is loaded"
        again, info = await store.code(digest, Settings())
        assert info is None, "from the cache"
        assert again.sha256 == code.sha256
        assert list(index.digests.values()) == [code.sha256]

    _with_store(tmp_path, work)
    assert stat.S_IMODE((tmp_path / "code").stat().st_mode) == 0o700
    assert stat.S_IMODE(_cached(tmp_path)[0].stat().st_mode) == 0o600


def test_a_module_is_read_as_it_was_put_or_not_at_all(tmp_path: Path) -> None:
    async def work(store: ArtifactStore, _: Index) -> None:
        digest = await store.put(wasm("add1"))
        assert await store.read(digest) == wasm("add1")
        with pytest.raises(NotFound):
            await store.read("ab" * 32)
        store.path(digest).write_bytes(wasm("echo"))
        with pytest.raises(StoreFailed, match="damaged"):
            await store.read(digest)
        store.path(digest).unlink()
        store.path(digest).mkdir()
        with pytest.raises(StoreFailed, match="cannot read"):
            await store.read(digest)

    _with_store(tmp_path, work)


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "foreign", "missing", "unknown"])
def test_a_bad_cache_entry_is_found_before_it_is_loaded(tmp_path: Path, damage: str) -> None:
    async def work(store: ArtifactStore, index: Index) -> None:
        digest = await store.put(wasm("add1"))
        good, _ = await store.code(digest, Settings())
        path = _cached(tmp_path)[0]
        data = bytearray(path.read_bytes())
        if damage == "flip":
            data[len(data) // 2] ^= 1
        elif damage == "truncate":
            del data[-1:]
        elif damage == "empty":
            data.clear()
        elif damage == "foreign":
            data = bytearray(b"\x7fELF" + bytes(100))
        path.write_bytes(data)
        if damage == "missing":
            path.unlink()
        if damage == "unknown":
            index.digests.clear()
        code, info = await store.code(digest, Settings())
        assert info is not None, "compiled again"
        assert code.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert good.size_bytes == code.size_bytes

    _with_store(tmp_path, work)


def test_refused_modules_leave_no_code(tmp_path: Path) -> None:
    async def work(store: ArtifactStore, _: Index) -> None:
        digest = await store.put(b"\0asm\x01\0\0\0\x01\x03\x01\x60\xff")
        with pytest.raises(WasmRefused, match="wasmtime refuses"):
            await store.code(digest, Settings())
        with pytest.raises(NotFound):
            await store.code("0" * 64, Settings())

    _with_store(tmp_path, work)
    assert list((tmp_path / "code").iterdir()) == []


def test_the_quota(tmp_path: Path) -> None:
    async def work(store: ArtifactStore, _: Index) -> None:
        await store.put(wasm("add1"))
        with pytest.raises(StorageFull):
            await store.put(bytes(1 << 20))
        assert store.usage_bytes() == len(wasm("add1"))

    _with_store(tmp_path, work)


def test_mending_needs_no_room_and_a_cache_that_is_gone_stops_no_collection(tmp_path: Path) -> None:
    async def check(store: ArtifactStore, _: Index) -> None:
        digest = await store.put(wasm("add1"))
        store.path(digest).write_bytes(b"x" * len(wasm("add1")))
        assert await store.put(wasm("add1")) == digest
        assert store.path(digest).read_bytes() == wasm("add1")
        shutil.rmtree(tmp_path / "code")
        assert await store.collect(set()) == 1
        assert store.usage_bytes() == 0

    _with_store(tmp_path, check, quota_bytes=len(wasm("add1")))


def test_collecting(tmp_path: Path) -> None:
    async def work(store: ArtifactStore, _: Index) -> None:
        keep, drop = await store.put(wasm("add1")), await store.put(wasm("echo"))
        for digest in (keep, drop):
            await store.code(digest, Settings())
        (tmp_path / "code" / ".tmp-torn").write_bytes(b"half")
        assert await store.collect({keep}) == 3
        assert store.path(keep).exists()
        assert not store.path(drop).exists()
        assert len(_cached(tmp_path)) == 1

    _with_store(tmp_path, work)


def test_an_unwritable_place_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("a file is in the way")
    with pytest.raises(StoreFailed):
        ArtifactStore(tmp_path / "artifacts", tmp_path / "code", Compiler(), Index())


def test_compiles_that_take_too_long_are_ended(tmp_path: Path) -> None:
    async def main() -> None:
        compiler = Compiler(wall_s=0.001)
        (tmp_path / "a.wasm").write_bytes(wasm("add1"))
        with pytest.raises(WasmRefused, match="took more than"):
            await compiler.inspect(tmp_path / "a.wasm")

    asyncio.run(main())


def test_sigkill_while_storing_leaves_whole_files_only(tmp_path: Path) -> None:
    """A child stores module after module and is killed in the middle: every file that has a name is complete."""
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from edgeagent.runtime.artifacts import ArtifactStore\n"
        "from edgeagent.runtime.compiler import Compiler\n"
        "store = ArtifactStore(Path(sys.argv[1]), Path(sys.argv[1] + '-c'), Compiler(), None, 1 << 40)\n"
        "async def main():\n"
        "    for i in range(100000):\n"
        "        await store.put(i.to_bytes(8, 'little') * 20000)\n"
        "        print(i, flush=True)\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "a")], stdout=subprocess.PIPE, env=environment
    ) as child:
        assert child.stdout is not None
        for _ in range(5):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    stored = list((tmp_path / "a").rglob("*.wasm"))
    assert len(stored) >= 5
    for path in stored:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem
