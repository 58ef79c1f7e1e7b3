"""Builds the double of libcuda (``cuda_double/``) once a process, and speaks to it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["COMPILER", "LIVE", "CudaDouble", "build"]

COMPILER = shutil.which("cc") or shutil.which("gcc") or ""
LIVE = ("contexts", "streams", "events", "pools", "blocks", "host", "registered", "bytes")
_SOURCE = Path(__file__).parent / "cuda_double" / "libcuda.c"


def build(target: Path, *defines: str, sanitize: bool | None = None) -> Path:
    """The library at ``target``; an error of the compiler is shown."""
    if sanitize is None:
        sanitize = bool(os.environ.get("EDGEAGENT_SANITIZED"))
    command = [
        COMPILER,
        "-std=c11",
        "-O1",
        "-g",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fPIC",
        "-shared",
        "-pthread",
    ]
    command += ["-fvisibility=hidden", *(f"-D{name}" for name in defines)]
    command += ["-fsanitize=address"] if sanitize else []
    # Without the preloaded sanitizers of the tests themselves: a compiler leaks, and need not be checked.
    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(
        [*command, "-o", str(target), str(_SOURCE)], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return target


class CudaDouble:
    """The same library that the extension opens, by the same path, so with the same state."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._library: Any = ctypes.CDLL(self.path)
        self._library.double_live.restype = ctypes.c_longlong
        self._library.double_calls.restype = ctypes.c_long
        self._library.double_last.restype = ctypes.c_long
        self._library.double_current.restype = ctypes.c_void_p
        self._library.double_set_current.argtypes = [ctypes.c_void_p]
        self._library.double_memory.argtypes = [ctypes.c_longlong]
        self._library.double_host_memory.argtypes = [ctypes.c_longlong]
        self._library.double_fail.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int]

    def reset(self) -> None:
        """One discrete device of capability 8.7 with 1 MiB, pools, and all that there is of features."""
        self._library.double_reset()

    def fail(self, function: str, code: int, *, call: int = 1, sticky: bool = False) -> None:
        """The ``call``-th call from now fails; ``sticky``: and everything after it."""
        self._library.double_fail(function.encode(), call, code, int(sticky))

    def poison(self, code: int) -> None:
        self._library.double_poison(code)

    def attribute(self, which: int, value: int) -> None:
        self._library.double_attribute(which, value)

    def integrated(self) -> None:
        """A Jetson: one memory, host pointers are device pointers."""
        self.attribute(18, 1)
        self.attribute(91, 1)

    def devices(self, count: int) -> None:
        self._library.double_devices(count)

    def memory(self, size_bytes: int) -> None:
        self._library.double_memory(size_bytes)

    def host_memory(self, size_bytes: int) -> None:
        self._library.double_host_memory(size_bytes)

    def hold(self) -> None:
        """Work is enqueued and not done."""
        self._library.double_hold(1)

    def let_go(self) -> None:
        self._library.double_hold(0)

    def live(self, what: str) -> int:
        return int(self._library.double_live(what.encode()))

    def leaks(self) -> dict[str, int]:
        """What is not zero of all that can be left behind."""
        return {what: count for what in LIVE if (count := self.live(what))}

    def calls(self, function: str) -> int:
        return int(self._library.double_calls(function.encode()))

    def last(self, what: str) -> int:
        return int(self._library.double_last(what.encode()))

    def current(self) -> int:
        return int(self._library.double_current() or 0)

    def set_current(self, context: int) -> None:
        self._library.double_set_current(context)
