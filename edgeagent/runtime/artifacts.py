"""Content-addressed artifacts and the private cache of their machine code.

    root/sha256/ab/abcdef....wasm    named by their own digest, written once, never changed
    cache/<digest>-<fingerprint>.cwasm    0700; ours alone; can be deleted at any time

Rules:
1. A file appears under its name only complete and on disk: temporary name, fsync, rename, fsync of the directory.
   A file that is already there is compared, not believed: a damaged one is written again.
2. Machine code is trusted by its SHA-256, kept in the ``CodeIndex`` outside the cache. It is read once, hashed, and
   loaded from a sealed memfd of those same bytes, so that no later change of the file reaches running code. Where the
   kernel or a sandbox refuses memfds, it is a file without a name, which nobody but our own user can open.
3. A missing, foreign or changed entry is compiled again; it never stops a function from running.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import tempfile
import uuid
from pathlib import Path
from typing import Protocol

from edgeagent.model.errors import NotFound, StorageFull, StoreFailed
from edgeagent.model.function import ModuleInfo
from edgeagent.runtime.compiler import Compiled, Compiler
from edgeagent.runtime.engine_config import Settings, Target, fingerprint
from edgeagent.runtime.port import Code

__all__ = ["ArtifactStore", "CodeIndex"]

_TEMP = ".tmp-"


class CodeIndex(Protocol):
    """Where the digests of cached machine code are kept; implemented by the state room."""

    async def get(self, key: str) -> str | None: ...
    async def put(self, key: str, sha256: str) -> None: ...
    async def drop(self, key: str) -> None: ...


class ArtifactStore:
    """``root`` and ``cache`` are made if missing; ``quota_bytes`` bounds the artifacts (not the cache)."""

    def __init__(
        self, root: Path, cache: Path, compiler: Compiler, index: CodeIndex, quota_bytes: int = 1 << 30
    ) -> None:
        self._root = root / "sha256"
        self._cache = cache
        self._compiler = compiler
        self._index = index
        self._quota_bytes = quota_bytes
        _own_directory(root)
        _own_directory(self._root)
        _own_directory(cache)
        self._used_bytes = self._measure()

    async def put(self, wasm: bytes) -> str:
        """Store a module; returns its SHA-256. Raises StorageFull, with nothing left behind."""
        digest = await asyncio.to_thread(lambda: hashlib.sha256(wasm).hexdigest())
        path = self.path(digest)
        if await asyncio.to_thread(_is_stored, path, digest):
            return digest
        damaged_bytes = path.stat().st_size if path.exists() else 0
        if self._used_bytes - damaged_bytes + len(wasm) > self._quota_bytes:
            raise StorageFull(
                f"artifacts hold {self._used_bytes} of {self._quota_bytes} bytes; {len(wasm)} more do not fit",
                hint="undeploy functions, or raise runtime.artifact_bytes_max",
            )
        await asyncio.to_thread(_write, path, wasm)
        self._used_bytes = await asyncio.to_thread(self._measure)
        return digest

    async def read(self, sha256: str) -> bytes:
        """A module as it was put. Raises NotFound, and StoreFailed when it is damaged."""
        data = await asyncio.to_thread(_read_checked, self.path(sha256), sha256)
        if data is None:
            raise NotFound(f"artifact {sha256} is not here", hint="deploy the function again")
        return data

    def path(self, sha256: str) -> Path:
        return self._root / sha256[:2] / f"{sha256}.wasm"

    def usage_bytes(self) -> int:
        return self._used_bytes

    async def code(self, sha256: str, settings: Settings) -> tuple[Code, ModuleInfo | None]:
        """Checked machine code, compiled if need be; the description comes with a fresh compilation only."""
        key = f"{sha256}-{fingerprint(settings)}"
        wanted = await self._index.get(key)
        if wanted is not None:
            code = await asyncio.to_thread(_load_checked, self._cache / f"{key}.cwasm", wanted)
            if code is not None:
                return code, None
        compiled = await self.compile(sha256, settings)
        code = await asyncio.to_thread(_load_checked, self._cache / f"{key}.cwasm", compiled.code_sha256)
        if code is None:
            raise StoreFailed(
                "the compiled module changed on disk while it was loaded", hint="check the disk"
            )
        return code, compiled.info

    async def compile(self, sha256: str, settings: Settings) -> Compiled:
        """Compile into the cache and record the digest.

        Raises NotFound, WasmRefused, StorageFull, and StoreFailed also when the stored module is damaged.
        """
        source = self.path(sha256)
        if not source.exists():
            raise NotFound(f"artifact {sha256} is not here", hint="deploy the function again")
        if not await asyncio.to_thread(_is_stored, source, sha256):
            raise StoreFailed(f"the stored module {sha256} is damaged", hint="deploy the function again")
        await asyncio.to_thread(_own_directory, self._cache)  # a cache may be removed at any time
        key = f"{sha256}-{fingerprint(settings)}"
        temp = self._cache / f"{_TEMP}{uuid.uuid4().hex}"
        try:
            compiled = await self._compiler.compile(source, temp, settings)
            if compiled.info.sha256 != sha256:
                raise StoreFailed(f"the stored module {sha256} is damaged", hint="deploy the function again")
            await asyncio.to_thread(_publish, temp, self._cache / f"{key}.cwasm")
        except OSError as error:
            raise _typed(error, self._cache) from None
        finally:
            temp.unlink(missing_ok=True)
        await self._index.put(key, compiled.code_sha256)
        return compiled

    async def collect(self, keep: set[str]) -> int:
        """Remove what is not of a digest in ``keep``, machine code for other engines, and leftovers of a crash."""
        return await asyncio.to_thread(self._collect, keep)

    def _collect(self, keep: set[str]) -> int:
        removed = 0
        for path in [*self._root.glob("*/*"), *self._cache.glob("*")]:
            digest, _, made_for = path.name.partition("-")
            current = path.suffix != ".cwasm" or made_for.removesuffix(".cwasm") in _fingerprints()
            if path.name.startswith(_TEMP) or digest.removesuffix(".wasm") not in keep or not current:
                path.unlink(missing_ok=True)
                removed += 1
        self._used_bytes = self._measure()
        return removed

    def _measure(self) -> int:
        return sum(path.stat().st_size for path in self._root.glob("*/*.wasm"))


def _fingerprints() -> set[str]:
    """Of all engines that this node could have: what an older version compiled is of no use to it."""
    targets: tuple[Target, ...] = ("native", "pulley64")
    return {fingerprint(Settings(fuel=fuel, target=target)) for fuel in (False, True) for target in targets}


def _own_directory(path: Path) -> None:
    """Make a 0700 directory that survives a power cut; refuse one that is another user's, close one that is open."""
    try:
        missing = [place for place in (path, *path.parents) if not place.exists()]
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for place in missing:
            _sync_directory(place.parent)
        found = path.stat()
        if found.st_uid != os.geteuid():
            raise StoreFailed(
                f"{path} belongs to user {found.st_uid}, not to us", hint="choose another directory"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise _typed(error, path) from None


def _typed(error: OSError, path: Path) -> StorageFull | StoreFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"no space left for {path}", hint="free disk space and try again")
    return StoreFailed(f"cannot write {path}: {error.strerror}")


def _is_stored(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return False
        _sync_directory(path.parent)  # whoever renamed it may not have come so far yet
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _typed(error, path) from None
    return True


def _read_checked(path: Path, sha256: str) -> bytes | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreFailed(f"cannot read {path}: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise StoreFailed(f"the stored module {sha256} is damaged", hint="deploy the function again")
    return data


def _write(path: Path, data: bytes) -> None:
    _own_directory(path.parent)
    temp = path.parent / f"{_TEMP}{uuid.uuid4().hex}"
    try:
        with os.fdopen(os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _publish(temp, path)
    except OSError as error:
        raise _typed(error, path) from None
    finally:
        with contextlib.suppress(OSError):
            temp.unlink(missing_ok=True)


def _publish(temp: Path, path: Path) -> None:
    temp.rename(path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class _SealedCode(Code, frozen=True, kw_only=True):
    """Keeps the descriptor open for as long as somebody may load from its path."""

    fd: int

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.fd)


def _load_checked(path: Path, sha256: str) -> Code | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(data).hexdigest() != sha256:
        return None
    try:
        fd = _sealed(data)
    except OSError:
        try:
            fd = _nameless(data, path.parent)
        except OSError as error:
            raise _typed(error, path) from None
    return _SealedCode(path=f"/proc/self/fd/{fd}", sha256=sha256, size_bytes=len(data), fd=fd)


def _sealed(data: bytes) -> int:
    fd = os.memfd_create("edge-code", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(fd, "wb", closefd=False) as file:
            file.write(data)
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except OSError:
        os.close(fd)
        raise
    return fd


def _nameless(data: bytes, folder: Path) -> int:
    with tempfile.TemporaryFile(dir=folder, prefix=_TEMP) as file:
        file.write(data)
        file.flush()
        return os.dup(file.fileno())
