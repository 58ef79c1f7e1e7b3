"""The description of the machine: complete, without names, and whole where files are missing."""

from __future__ import annotations

import platform

import pytest

from edgeagent.bench import machine


def test_it_says_what_a_figure_depends_on() -> None:
    described = machine.describe_machine(busy=0.02)
    assert described["cores"] >= 1
    assert described["memory_mib"] > 0
    assert described["packages"]["wasmtime"]
    assert isinstance(described["accelerated"], bool)
    assert described["busy"] is False
    assert platform.node() not in str(described)


def test_a_busy_machine_is_marked() -> None:
    assert machine.describe_machine(busy=0.5)["busy"] is True


def test_what_cannot_be_read_is_empty_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_text", lambda _path: "")
    monkeypatch.setattr(machine, "_PACKAGES", ("no-such-package",))
    described = machine.describe_machine(busy=0.0)
    assert described["governor"] == "unknown"
    assert described["memory_mib"] == 0
    assert described["packages"] == {"no-such-package": ""}
    assert machine.busy_share(0.0) == 0


def test_a_file_that_is_not_there_reads_as_empty() -> None:
    assert machine._text("/nonexistent/file") == ""


def test_available_memory_and_load_are_measured() -> None:
    assert machine.available_memory_bytes() > 1 << 20
    assert 0 <= machine.busy_share(0.01) <= 1
