"""Feed a node's hoses, or be fed, from another Python process: ``libedgehose.so`` through cffi.

    with Hose.attach("/run/edgeagent/hose.sock", "camera") as hose:
        loan = hose.loan(1 << 20)
        loan.data[:5] = b"hello"
        loan.publish(5)

    with Hose.attach(path, "results", role="consumer") as hose, hose.take(timeout_s=1) as frame:
        print(bytes(frame.data[:10]))

``data`` is the memory that is shared, not a copy of it; numpy.frombuffer takes it as it is. What the library refuses is
raised as OSError with its errno and text: BlockingIOError when nothing is to be had in the time given,
ConnectionResetError when the node has gone, PermissionError when this user may not attach. The C header,
``edgehose.h``, says which function returns what.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

__all__ = ["ABI_MAJOR", "Hose", "Loan", "Taken", "library_path"]

ABI_MAJOR = 1

_ROLES = {"producer": 1, "consumer": 2}
_INT_MAX = (1 << 31) - 1
_DECLARATIONS = """
typedef struct edgehose edgehose;
uint32_t edgehose_abi_version(void);
int edgehose_attach(const char *socket_path, const char *hose_name, int role, edgehose **out);
int edgehose_loan(edgehose *h, size_t bytes, void **ptr);
int edgehose_publish(edgehose *h, void *ptr, size_t bytes, uint64_t *seq);
int edgehose_try_publish(edgehose *h, void *ptr, size_t bytes, uint64_t *seq);
int edgehose_set_timeout(edgehose *h, int timeout_ms);
int edgehose_abandon(edgehose *h, void *ptr);
int edgehose_take(edgehose *h, const void **ptr, size_t *bytes, int timeout_ms);
int edgehose_release(edgehose *h, const void *ptr);
const char *edgehose_error(const edgehose *h);
int edgehose_close(edgehose *h);
"""


def library_path() -> Path:
    """Where the library is looked for: ``EDGEHOSE_LIB``, or beside the package's extension."""
    named = os.environ.get("EDGEHOSE_LIB")
    return Path(named) if named else Path(__file__).parents[1] / "native/libedgehose.so"


class _Library:
    """cffi's view of the library; one for each path, loaded at the first use."""

    _loaded: tuple[Path, _Library] | None = None

    def __init__(self, path: Path) -> None:
        try:
            import cffi
        except ImportError as error:
            raise ImportError(f"edgeagent.hose.client needs cffi: pip install cffi ({error})") from None
        self.ffi: Any = cffi.FFI()
        self.ffi.cdef(_DECLARATIONS)
        try:
            self.lib: Any = self.ffi.dlopen(str(path))
        except OSError as error:
            raise ImportError(
                f"libedgehose.so is not there or does not load ({error}); make native builds it, and EDGEHOSE_LIB"
                " names another place"
            ) from None
        version = self.lib.edgehose_abi_version()
        if version >> 16 != ABI_MAJOR:
            raise ImportError(f"{path} has ABI {version >> 16}, not {ABI_MAJOR}")

    @classmethod
    def load(cls) -> _Library:
        path = library_path()
        if cls._loaded is None or cls._loaded[0] != path:
            cls._loaded = path, cls(path)
        return cls._loaded[1]

    def check(self, rc: int) -> None:
        """Raise the OSError that belongs to ``rc``."""
        if rc < 0:
            text = self.ffi.string(self.lib.edgehose_error(self.ffi.NULL)).decode("utf-8", "replace")
            raise OSError(-rc, text)

    def wait(self, call: Callable[[int], int], timeout_s: float | None) -> None:
        """Call with a timeout in milliseconds (-1: none), again after signals, whose handlers run between."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            rest_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            # Rounded up: 0 would turn a short wait into none.
            try:
                self.check(call(-1 if rest_s is None else min(_INT_MAX, -int(-rest_s * 1000 // 1))))
            except InterruptedError:
                continue
            return


class _Buffer:
    """Memory that the library lends; its memoryviews must be gone before the memory goes."""

    def __init__(self, hose: Hose, pointer: Any, size: int, *, read_only: bool) -> None:
        self._hose = hose
        self._pointer = pointer
        buffer = hose._library.ffi.buffer(pointer, size)
        # The view holds the only reference, through every slice made of it: while it lives the memory is in use.
        self._in_use = weakref.ref(buffer)
        view = memoryview(buffer)
        self._data: memoryview | None = view.toreadonly() if read_only else view

    @property
    def data(self) -> memoryview:
        """The memory. Raises ValueError once it was given away."""
        if self._data is None:
            raise ValueError("the buffer was given away")
        return self._data

    def _let_go(self) -> Any:
        """The pointer, if nobody can reach the memory any more; raises BufferError while somebody can."""
        view, pointer = self.data, self._pointer
        self._data = None
        try:
            size, read_only = view.nbytes, view.readonly
            view.release()
        except BufferError:
            self._data = view
            raise BufferError("an array or a view of the buffer is still alive") from None
        if self._in_use() is not None:
            # A slice has it; without a view of our own it could not be given away later either.
            self._renew(size, read_only=read_only)
            raise BufferError("a slice of the buffer is still alive")
        return pointer

    def _renew(self, size: int, *, read_only: bool) -> None:
        in_use = self._in_use()
        view = memoryview(
            in_use if in_use is not None else self._hose._library.ffi.buffer(self._pointer, size)
        )
        self._data = view.toreadonly() if read_only else view


class Loan(_Buffer):
    """A buffer to fill and publish, or to abandon."""

    def publish(self, size: int | None = None, timeout_s: float | None = None) -> int:
        """Hand the first ``size`` bytes (default: all) to the node; returns the frame's number.

        Waits for a credit, for ever by default. Raises OSError; after BlockingIOError and BufferError the loan is still
        the caller's, after any other it is gone.
        """
        whole = self.data.nbytes
        size = whole if size is None else size
        if not 1 <= size <= whole:
            raise ValueError(f"a frame of this loan has 1 to {whole} bytes, not {size}")
        library, handle, pointer = self._hose._library, self._hose._open(), self._let_go()
        seq = library.ffi.new("uint64_t *")

        def call(timeout_ms: int) -> int:
            rc = library.lib.edgehose_set_timeout(handle, timeout_ms)
            return int(rc or library.lib.edgehose_publish(handle, pointer, size, seq))

        try:
            library.wait(call, timeout_s)
        except (BlockingIOError, KeyboardInterrupt):
            self._renew(whole, read_only=False)
            raise
        except OSError:
            self._hose._buffers.discard(self)
            raise
        self._hose._buffers.discard(self)
        return int(seq[0])

    def abandon(self) -> None:
        """Give the buffer back unpublished."""
        pointer = self._let_go()
        self._hose._buffers.discard(self)
        self._hose._library.check(self._hose._library.lib.edgehose_abandon(self._hose._open(), pointer))


class Taken(_Buffer):
    """A frame: read-only, immutable, this process's until ``release``."""

    def release(self) -> None:
        """Give the frame back; again it does nothing. Raises BufferError while a view of it is alive."""
        if self._data is None:
            return
        pointer = self._let_go()
        self._hose._buffers.discard(self)
        self._hose._library.check(self._hose._library.lib.edgehose_release(self._hose._open(), pointer))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Hose:
    """An attachment to a node's hose; made by ``attach``."""

    def __init__(self, library: _Library, handle: Any) -> None:
        self._library = library
        self._handle = handle
        self._buffers: set[_Buffer] = set()

    @classmethod
    def attach(
        cls, path: str | os.PathLike[str], name: str, role: Literal["producer", "consumer"] = "producer"
    ) -> Self:
        """Attach to the hose ``name`` of the node that listens at ``path``. Raises OSError, and ImportError where
        cffi or the library is missing.
        """
        library = _Library.load()
        out = library.ffi.new("edgehose **")
        place, hose = os.fsencode(path), name.encode()
        library.wait(lambda _: int(library.lib.edgehose_attach(place, hose, _ROLES[role], out)), None)
        return cls(library, out[0])

    def _open(self) -> Any:
        if self._handle is None:
            raise ValueError("the hose is closed")
        return self._handle

    def loan(self, size: int) -> Loan:
        """A buffer of ``size`` zero bytes to fill and publish. Raises OSError (ENOMEM, ENOBUFS, EINVAL)."""
        pointer = self._library.ffi.new("void **")
        if size < 1:
            raise ValueError(f"a loan has at least 1 byte, not {size}")
        self._library.check(self._library.lib.edgehose_loan(self._open(), size, pointer))
        loan = Loan(self, pointer[0], size, read_only=False)
        self._buffers.add(loan)
        return loan

    def take(self, timeout_s: float | None = None) -> Taken:
        """The next frame; waits, for ever by default. Raises OSError: BlockingIOError when none came in time."""
        handle, ffi = self._open(), self._library.ffi
        pointer, size = ffi.new("const void **"), ffi.new("size_t *")
        self._library.wait(
            lambda timeout_ms: int(self._library.lib.edgehose_take(handle, pointer, size, timeout_ms)),
            timeout_s,
        )
        frame = Taken(self, pointer[0], int(size[0]), read_only=True)
        self._buffers.add(frame)
        return frame

    def close(self) -> None:
        """Leave the node and give every buffer back. Raises BufferError, and stays open, while views are alive."""
        if self._handle is None:
            return
        for buffer in list(self._buffers):
            buffer._let_go()
            self._buffers.discard(buffer)
        handle, self._handle = self._handle, None
        self._library.check(self._library.lib.edgehose_close(handle))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
