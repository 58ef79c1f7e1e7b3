"""What the server makes of its configuration."""

from __future__ import annotations

import resource

import pytest

from edgeagent.http import server


def test_connections_are_what_was_configured_or_what_descriptors_allow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert server._connections_max(5) == 5
    assert server._connections_max(100_000) == 1024 - 128
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    assert server._connections_max(5) == 5
    assert server._connections_max(100) == 8
