"""Nodes without the start of an interpreter: forked from a process that has imported what a node is made of.

Hundreds are started, and most of what a start costs is imports. A child goes through its ``main`` from the first
argument on, in a process of its own, with the environment, the folder and the streams that it is given, and ends as an
interpreter ends. The command as a user starts it is what the tests of the command line and of the demo start: only
they see the order of imports, and what depends on the seed of ``hash``, which all children share.

``python -m tests.integration.nursery FD``: asks come over the socket FD, one message each; it ends, and all its
children with it (``--exit-with-parent``), when nobody holds the other end.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

__all__ = ["Born", "Nursery", "nursery"]

ROOT = Path(__file__).resolve().parents[2]
_ASK_BYTES_MAX = 1 << 17  # an environment is some kilobytes
_FDS_MAX = 4  # where the exit code goes, standard output and error, and standard input where it is a pipe


class Born:
    """A child of the nursery, with as much of :class:`subprocess.Popen` as tests use."""

    def __init__(self, pid: int, pidfd: int, code: int, stdout: IO[str], stdin: IO[str] | None) -> None:
        self.pid = pid
        self.stdout: IO[str] | None = stdout
        self.stdin = stdin
        self.returncode: int | None = None
        self._pidfd = pidfd
        self._code = code

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, negative for a signal. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not _readable(self._code, timeout):
                raise subprocess.TimeoutExpired(["edgeagent", "run"], timeout or 0.0)
            # Without a word the nursery has ended, and its children with it.
            self.returncode = int(os.read(self._code, 16) or -signal.SIGKILL)
            os.close(self._code)
            os.close(self._pidfd)
        return self.returncode

    def poll(self) -> int | None:
        """Its exit code once it has ended."""
        if self.returncode is None and _readable(self._code, 0.0):
            self.wait()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Nothing happens where it has ended."""
        if self.poll() is None:
            try:
                signal.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:  # a moment ago
                return

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _readable(fd: int, timeout_s: float | None) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))


class Nursery:
    """The tests' side. Threads may ask at once."""

    def __init__(self, environment: dict[str, str]) -> None:
        """``environment``: of the process that forks, and so of what has been imported in it."""
        self._inherited = _inherited(environment)
        self._lock = threading.Lock()
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def is_for(self, environment: dict[str, str]) -> bool:
        """Whether a daemon of this environment would be the same as one that is started: what it preloads, which engine
        it imports, where it imports from, which signals it ignores.
        """
        return _inherited(environment) == self._inherited

    def born(
        self,
        words: Sequence[str],
        environment: dict[str, str],
        log: IO[bytes],
        *,
        module: str = "edgeagent.__main__",
        listens: bool = False,
    ) -> Born:
        """``python -m MODULE WORDS``, with its standard output as a pipe, and its standard input where it ``listens``;
        its standard error goes to ``log``.
        """
        code, their_code = os.pipe()
        read, their_out = os.pipe()
        their_in, write = os.pipe() if listens else (-1, -1)
        given = [their_code, their_out, log.fileno(), *([their_in] if listens else [])]
        ask = {
            "module": module,
            "words": list(words),
            "environment": environment,
            "folder": str(Path.cwd()),
        }
        try:
            with self._lock:
                socket.send_fds(self._line, [json.dumps(ask).encode()], given)
                data, fds, _, _ = socket.recv_fds(self._line, 64, 1)
        finally:
            for one in {*given} - {log.fileno()}:
                os.close(one)
        stdin = os.fdopen(write, "w", encoding="utf-8") if listens else None
        return Born(int(data), fds[0], code, os.fdopen(read, encoding="utf-8"), stdin)


def _inherited(environment: dict[str, str]) -> tuple[dict[str, str], set[signal.Signals]]:
    """What a process has from this one, but for what pytest changes with every test."""
    lasting = {key: value for key, value in environment.items() if not key.startswith("PYTEST_")}
    ignored = {one for one in signal.valid_signals() if signal.getsignal(one) is signal.SIG_IGN}
    return lasting, ignored


@cache
def nursery() -> Nursery:
    """That of this process of tests."""
    from tests.integration.daemon import environment

    return Nursery(environment())


# -- the process that forks ------------------------------------------------------------------------------------


def _serve(line: socket.socket) -> str | None:
    """In the nursery, None once nobody asks any more; in each child, the module that it is to be."""
    children: dict[int, tuple[int, int]] = {}  # by pidfd: pid, and where its exit code goes
    poll = select.poll()
    poll.register(line, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd != line.fileno():
                pid, code = children.pop(fd)
                poll.unregister(fd)
                _, status = os.waitpid(pid, 0)
                _told(code, os.waitstatus_to_exitcode(status))
                os.close(fd)
                continue
            data, fds, _, _ = socket.recv_fds(line, _ASK_BYTES_MAX, _FDS_MAX)
            if not data:
                return None
            ask = json.loads(data)
            pid = _fork()
            if pid == 0:
                return _child(ask, fds)
            pidfd = os.pidfd_open(pid)
            children[pidfd] = (pid, fds[0])
            poll.register(pidfd, select.POLLIN)
            for one in fds[1:]:
                os.close(one)
            socket.send_fds(line, [str(pid).encode()], [pidfd])


def _told(code: int, value: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # a test that left it to itself
        os.write(code, str(value).encode())
    os.close(code)


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of numpy's, which has its own handlers
        return os.fork()


def _child(ask: dict[str, Any], fds: Sequence[int]) -> str:
    for fd, standard in zip(fds[1:], (1, 2, 0), strict=False):
        os.dup2(fd, standard)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    sys.stdout = os.fdopen(1, "w")  # the nursery's own are of other kinds of files
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace")
    sys.stdin = os.fdopen(0)
    os.chdir(ask["folder"])
    os.environ.clear()
    os.environ.update(ask["environment"])
    sys.argv = [ask["module"], *ask["words"]]
    return str(ask["module"])


def _main() -> int:
    import edgeagent.cli.main
    import edgeagent.cli.run
    import edgeagent.http.server
    import edgeagent.node.heap
    import edgeagent.node.node  # noqa: F401 - before the fork

    gc.freeze()  # else the first collection of every child copies all pages
    with socket.socket(fileno=int(sys.argv[1])) as line:
        module = _serve(line)
        if module is not None:
            line.detach()  # closed already
    if module is None:
        return 0
    gc.unfreeze()
    code: int | None = importlib.import_module(module).main()
    return code or 0


if __name__ == "__main__":
    sys.exit(_main())
