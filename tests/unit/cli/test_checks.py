"""What ``doctor`` finds, where the system can be made to lack it."""

from __future__ import annotations

import errno
import os

import pytest

from edgeagent.cli.checks import kernel


def test_a_kernel_without_memfds_costs_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernel().level == "ok"

    def refuse(_name: str) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "memfd_create", refuse)
    found = kernel()
    assert (found.level, "copies" in found.detail) == ("warn", True)
