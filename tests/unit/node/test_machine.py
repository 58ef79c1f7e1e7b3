"""Facts about the machine: read where they are, absent where they are not, never zero instead."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from edgeagent.node import machine


def test_this_machine() -> None:
    assert (machine.rss_bytes() or 0) > 1 << 20
    memory = machine.memory_bytes()
    assert (memory["total_bytes"] or 0) >= (memory["available_bytes"] or 0) > 0
    assert len(machine.load_average() or []) == 3
    assert isinstance(machine.jit_allowed(), bool)


@pytest.mark.parametrize("text", [None, "", "odd", "MemTotal: much kB\n"])
def test_what_cannot_be_read_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    path = tmp_path / "file"
    if text is not None:
        path.write_text(text)
    assert machine.rss_bytes(path) is None
    assert machine.memory_bytes(path) == {"total_bytes": None, "available_bytes": None}
    meter = machine.CpuMeter(path)
    assert meter.look() is None

    def absent() -> tuple[float, float, float]:
        raise OSError("none")

    monkeypatch.setattr(os, "getloadavg", absent)
    assert machine.load_average() is None


def test_memory(tmp_path: Path) -> None:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:  100 kB\nMemFree: 1 kB\nMemAvailable:  50 kB\n\n")
    assert machine.memory_bytes(path) == {"total_bytes": 102_400, "available_bytes": 51_200}


def test_the_share_of_busy_time_between_two_looks(tmp_path: Path) -> None:
    path = tmp_path / "stat"
    path.write_text("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1\n")
    meter = machine.CpuMeter(path)
    path.write_text("cpu  130 0 100 760 110 0 0 0 0 0\n")
    assert meter.look() == 0.3
    assert meter.look() == 0.3  # no time has passed
    path.write_text("cpu  130 0 100 860 110 0 0 0 0 0\n")
    assert meter.look() == 0.0


def test_a_clock_before_2024_was_never_set() -> None:
    assert machine.clock_state(1_000_000) == "unsynchronised"
    assert machine.clock_state(1_704_067_199) == "unsynchronised"
    assert machine.clock_state(1_704_067_200) == "ok"
    assert machine.clock_state() == "ok"


def test_the_limit_of_open_files_goes_up_where_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: calls.append(limits))
    assert machine.raise_fd_limit() == (1024, 4096)
    assert calls == [(4096, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4096, 4096))
    assert machine.raise_fd_limit() == (4096, 4096)
    assert len(calls) == 1

    def refuse(_: int, limits: tuple[int, int]) -> None:
        raise ValueError("above the maximum")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1 << 30))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert machine.raise_fd_limit() == (1024, 1024)
