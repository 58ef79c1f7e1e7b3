"""The incarnation of the last life, on disk, so that the next one begins above it whatever the clock says.

Within a life the version counter starts at the boot time in milliseconds, 65,536 versions each: a life that the disk
has not heard of is overtaken all the same, unless the clock fell back as well. So it is written beside the loop.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import structlog

__all__ = ["IncarnationFile"]

log = structlog.get_logger("mesh")


class IncarnationFile:
    """``read`` and ``write`` on any thread, ``write_soon`` on the loop's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._wanted = 0
        self._writer: threading.Thread | None = None

    def read(self) -> int | None:
        """None where there is none, or what is there is no number: then the clock has to do."""
        try:
            text = self._path.read_text(encoding="ascii")
            return int(text) if text.endswith("\n") and text.strip().isdigit() else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("the last incarnation cannot be read", file=str(self._path), why=str(error)[:200])
            return None

    def write(self, incarnation: int) -> None:
        """Durably, or with a warning: a full disk is no reason to leave the mesh."""
        new = self._path.with_suffix(".new")
        try:
            with new.open("w", encoding="ascii") as file:
                file.write(f"{incarnation}\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as error:
            log.warning("the incarnation cannot be written down", file=str(self._path), why=str(error)[:200])

    def write_soon(self, incarnation: int) -> None:
        """The newest one is written, on a thread of its own."""
        with self._lock:
            self._wanted = incarnation
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_newest, name="incarnation", daemon=True)
                self._writer.start()

    def _write_newest(self) -> None:
        while True:
            with self._lock:
                incarnation = self._wanted
            self.write(incarnation)
            with self._lock:
                if self._wanted == incarnation:
                    self._writer = None
                    return
