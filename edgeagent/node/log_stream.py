"""Where the log is written: a stream that is full, closed or gone costs lines, never the node."""

from __future__ import annotations

import os
from typing import TextIO

__all__ = ["LogStream"]


class LogStream:
    """Writes each line in one piece; counts in ``lost`` what could not be written since the last line that was.

    A log on a full disk (ENOSPC), a pipe whose reader left (EPIPE) or a terminal that hung up (EIO) must not end a node
    that nobody can reach. Lines go to the descriptor itself where there is one: a text stream would keep what it could
    not write, fail again at every later line, and make the process's exit status 120.
    """

    def __init__(self, out: TextIO | None) -> None:
        self.lost = 0
        self._out = out
        self._torn = False
        try:
            self._descriptor = out.fileno() if out is not None else -1
        except (OSError, ValueError):  # not a file, or closed
            self._descriptor = -1

    def isatty(self) -> bool:
        """Whether people read this."""
        return self._out is not None and not self._out.closed and self._out.isatty()

    def write(self, text: str) -> int:
        """Write lines; never raises for what the stream does."""
        if self._out is None:
            return len(text)
        written = self._put("\n" + text if self._torn else text)
        self.lost = 0 if written else self.lost + 1
        return len(text)

    def flush(self) -> None:
        """Nothing waits here."""

    def _put(self, text: str) -> bool:
        if self._descriptor < 0:
            return self._put_stream(text)
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        try:
            while data:
                written = os.write(self._descriptor, data)
                self._torn = written < len(data)
                data = data[written:]
        except OSError:
            return False
        return True

    def _put_stream(self, text: str) -> bool:
        try:
            self._out.write(text)  # type: ignore[union-attr]
        except (OSError, ValueError):  # closed
            return False
        return True
