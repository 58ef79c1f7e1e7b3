"""The probe's process, from the daemon's side: asked with a deadline, killed when it does not answer, begun again.

Whatever NVML does, a look ends in time and says why there is less in it. After a failure NVML is left alone for 5 s,
then for twice as long each time, 10 minutes at most; meanwhile a probe without it reads what the kernel's files say.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

import edgeagent
from edgeagent.accel.health import Look
from edgeagent.accel.health_sysfs import is_jetson

__all__ = ["GpuProbe", "gpu_is_here", "probe_environment"]

log = structlog.get_logger("gpu")

_DEVICES = ("dev/nvidiactl", "dev/nvidia0", "dev/dxg")
_START_S = 10.0  # an interpreter, and a driver that was asleep
_LINE_BYTES_MAX = 1 << 18
_PAUSE_S_FIRST, _PAUSE_S_MAX = 5.0, 600.0
_reader = msgspec.json.Decoder(Look)


def gpu_is_here(root: Path = Path("/")) -> bool:
    """Whether there is anything to probe: a few stats, no driver is asked."""
    return is_jetson(root) or any((root / name).exists() for name in _DEVICES)


def probe_environment() -> dict[str, str]:
    """Ours, with the place that this package was imported from first on the path."""
    places = [str(Path(edgeagent.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(place for place in places if place)
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}


class _Failed(Exception):
    """The probe did not answer."""


class GpuProbe:
    """On the event loop's thread. ``root`` is where the kernel's files are, ``deadline_s`` how long a look may take."""

    def __init__(
        self,
        *,
        root: Path = Path("/"),
        deadline_s: float = 2.0,
        start_s: float = _START_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._deadline_s = deadline_s
        self._start_s = start_s
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self._with_nvml = True
        self._pause_s = _PAUSE_S_FIRST
        self._nvml_from_s = 0.0
        self._why = ""
        self._unreaped: list[asyncio.subprocess.Process] = []
        self.failures = 0

    async def look(self) -> Look:
        """All GPUs. Never raises but when it is cancelled; takes the deadline twice at most."""
        nvml = self._clock() >= self._nvml_from_s and not self._is_stuck()
        if self._process is not None and self._with_nvml != nvml:
            await self._stop()
        try:
            look = await self._asked(nvml)
        except _Failed as error:
            if nvml:
                self._why = str(error)
                self._nvml_from_s = self._clock() + self._pause_s
                log.warning("nvml is left alone", why=self._why, seconds=self._pause_s)
                self._pause_s = min(2.0 * self._pause_s, _PAUSE_S_MAX)
            try:
                look = await self._asked(nvml=False)
            except _Failed as second:
                return Look(nvml=f"{self._why or error}; {second}")
            nvml = False
        if nvml:
            self._pause_s = _PAUSE_S_FIRST
            return look
        return msgspec.structs.replace(look, nvml=self._why)

    async def close(self) -> None:
        """Idempotent."""
        await self._stop()

    def _is_stuck(self) -> bool:
        """A probe that not even a kill ends (it waits in the driver) holds NVML: no second one is sent after it."""
        self._unreaped = [one for one in self._unreaped if one.returncode is None]
        return bool(self._unreaped)

    async def _asked(self, nvml: bool) -> Look:
        """Raises _Failed, with no process left."""
        try:
            limit_s = self._deadline_s
            if self._process is None:
                self._process, limit_s = await self._started(nvml), self._start_s
                self._with_nvml = nvml
            process = self._process
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"look\n")
            line = await asyncio.wait_for(process.stdout.readline(), limit_s)
            if not line.endswith(b"\n"):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), 1.0)
                raise _Failed(f"the probe ended ({process.returncode})")
            return _reader.decode(line)
        except TimeoutError:
            failed = _Failed("the probe did not answer in time")
        except (OSError, ValueError) as error:
            # No process, no pipe, a line without an end, an answer that is none.
            failed = _Failed(f"the probe failed: {error}"[:200])
        except _Failed as error:
            failed = error
        except asyncio.CancelledError:
            await self._stop()
            raise
        self.failures += 1
        await self._stop()
        raise failed

    async def _started(self, nvml: bool) -> asyncio.subprocess.Process:
        more = [] if nvml else ["--no-nvml"]
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # never a package that lies in the directory where the node was started
            "-m",
            "edgeagent.accel.health_probe",
            *more,
            "--root",
            str(self._root),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_LINE_BYTES_MAX,
            start_new_session=True,
            env=probe_environment(),
        )

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 1.0)
        except TimeoutError:
            log.warning("a GPU probe cannot be killed: it waits in the driver", pid=process.pid)
            self._unreaped.append(process)
