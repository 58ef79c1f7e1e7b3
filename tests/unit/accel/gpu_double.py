"""A GPU for tests: numpy behind the door of a device, in a broker process of its own, that misbehaves on command.

A folder, named by ``EDGEAGENT_TEST_GPU``, has the files ``starts`` and ``calls``: each start, each call of a function
takes the first line of its file, and does what it says; without a line it behaves. ``done`` gets a line for each call
that was done; ``miscounts`` spoils all answers from when it is there. So a test says beforehand what will happen, also
to brokers that are started later.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeagent.accel.backend import Described
from edgeagent.accel.errors import DeviceAbsent, DeviceFull, DeviceGone, DevicePoisoned
from edgeagent.accel.execute import Prepared, run_on_gpu
from edgeagent.accel.self_test import SELF_TEST

__all__ = ["NAME", "VARIABLE", "NumpyGpu", "calls_done", "command"]

VARIABLE = "EDGEAGENT_TEST_GPU"
NAME = "tests.unit.accel.gpu_double:NumpyGpu"
_RAISES = {
    "absent": DeviceAbsent("no GPU, as commanded"),
    "memory": DeviceFull("no memory, as commanded"),
    "poisoned": DevicePoisoned("poisoned, as commanded"),
    "gone": DeviceGone("gone, as commanded"),
    "kernel": RuntimeError("a kernel fails, as commanded"),
}


class _FastNumbers:
    """numpy, but quick with whole numbers: they are multiplied as floats, which holds for small ones."""

    __name__ = "fast"

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def matmul(self, a: Any, b: Any, out: Any = None) -> Any:
        product = (a.astype("float64") @ b.astype("float64")).astype(a.dtype)
        if out is None:
            return product
        out[...] = product
        return out


class _Device:
    xp = _FastNumbers()

    def put(self, array: Any) -> Any:
        return np.array(array)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        return np.full(shape, 99, dtype)

    def take(self, array: Any, into: Any) -> None:
        into[...] = array


class NumpyGpu:
    """See the module."""

    def __init__(self, device: int) -> None:
        self._device = device
        folder = os.environ.get(VARIABLE, "")
        self._folder = Path(folder) if folder else None
        self._wrong = False

    def start(self, arena: memoryview) -> Described:
        assert len(arena)
        self._wrong = self._misbehave("starts") == "wrong"
        if self._folder is not None:
            (self._folder / "caches").write_text(os.environ.get("CUPY_CACHE_DIR", ""))
        return Described(f"numpy {self._device}", 1 << 30)

    def attach(self, memory: memoryview) -> str:
        assert memory.readonly
        self._note("attached", str(len(memory)))
        return "attached"

    def detach(self, attached: Any) -> None:
        assert attached == "attached"
        self._note("detached", "")

    def run(
        self, function: str, prepared: Prepared, slot: memoryview, maps: Sequence[memoryview] = ()
    ) -> None:
        if function != SELF_TEST and self._misbehave("calls") == "half":
            slot[-8:] = b"half" * 2
            os.kill(os.getpid(), signal.SIGKILL)
        run_on_gpu(prepared, slot, _Device(), maps)
        if self._wrong or (self._folder is not None and (self._folder / "miscounts").exists()):
            slot[-4:] = b"\0\0\0\0"
        if function != SELF_TEST:
            self._note("done", f"{function} {prepared.kernel.name}")
            if maps:
                self._note("mapped", " ".join(str(len(one)) for one in maps))

    def forget(self, function: str) -> None:
        if self._folder is not None:
            (self._folder / "forgotten").write_text(function)

    def used_bytes(self) -> int:
        return 4096

    def close(self) -> None:
        """Nothing is open."""

    def _note(self, kind: str, line: str) -> None:
        if self._folder is not None:
            with (self._folder / kind).open("a") as file:
                file.write(f"{line}\n")

    def _misbehave(self, kind: str) -> str:
        if self._folder is None or not (self._folder / kind).exists():
            return ""
        lines = (self._folder / kind).read_text().split()
        if not lines:
            return ""
        (self._folder / kind).write_text("\n".join(lines[1:]))
        word = lines[0]
        if word in _RAISES:
            raise _RAISES[word]
        if word == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif word == "hang":
            (self._folder / "hangs").touch()
            while True:
                time.sleep(60)
        elif word.startswith("slow"):
            time.sleep(float(word.removeprefix("slow")))
        return word


def command(folder: Path, kind: str, *words: str) -> None:
    """What the next starts or calls do."""
    folder.mkdir(exist_ok=True)
    beside = folder / f"{kind}.new"
    beside.write_text("\n".join(words))
    beside.replace(folder / kind)


def calls_done(folder: Path) -> list[str]:
    """FUNCTION KERNEL of each call that was done."""
    path = folder / "done"
    return path.read_text().splitlines() if path.exists() else []
