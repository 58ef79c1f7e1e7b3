"""Transfers over a wire that damages and cuts: with the extension's runs of frames, and frame by frame."""

from __future__ import annotations

import pytest

from edgeagent.hose import checksum
from edgeagent.hose.remote_link import Link
from tests.integration.hose_remote_rig import MIB, Rig, pattern
from tests.integration.hose_wire import HANDSHAKE_BYTES, wire


@pytest.fixture(params=["runs", "frames"], autouse=True)
def runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether frames go many at a time."""
    if request.param == "frames":
        monkeypatch.setattr(Link, "has_runs", False)
        return False
    if not checksum.crc32_is_native():
        pytest.skip("no fast CRC-32 here, and no runs")
    both = checksum.ALL | checksum.Checksum.CRC32_FIRST
    for module in ("remote_stream", "remote_session"):
        monkeypatch.setattr(f"edgeagent.hose.{module}.worthwhile", lambda: both)
    return True


@pytest.mark.parametrize("count", [0, 1, 511 * 1024, MIB, 3 * MIB + 17, 40 * MIB])
def test_a_clean_wire(count: int) -> None:
    content = pattern(count)
    with Rig() as rig, wire(rig):
        report = rig.run(rig.client().send(content, hashed=True))
        assert rig.delivered() == content
        assert (report.sent_bytes, report.stored_bytes, report.resumes) == (count, count, 0)
        assert rig.listener.stats.bytes == count


@pytest.mark.parametrize("at", [300_000, 5 * MIB, 8 * MIB - 1])
def test_a_damaged_frame_is_sent_again(at: int) -> None:
    content = pattern(8 * MIB)
    with Rig() as rig, wire(rig, damage_at=(HANDSHAKE_BYTES + at,)):
        report = rig.run(rig.client().send(content, hashed=True))
        assert rig.delivered() == content
        assert report.connections == 1
        assert rig.listener.stats.frames_again == 1
        assert len(content) < report.sent_bytes <= len(content) + MIB


def test_two_damaged_frames(runs: bool) -> None:
    content = pattern(16 * MIB)
    with Rig() as rig, wire(rig, damage_at=(2 * MIB + 4096, 9 * MIB)):
        rig.run(rig.client().send(content, hashed=True))
        assert rig.delivered() == content
        assert rig.listener.stats.frames_again == 2


def test_a_cut_in_the_middle() -> None:
    content = pattern(8 * MIB)
    with Rig() as rig, wire(rig, cut_at=4 * MIB + 12345):
        report = rig.run(rig.client().send(content, hashed=True))
        assert rig.delivered() == content
        assert (report.connections, report.resumes) == (2, 1)
        assert rig.listener.stats.resumes == 1
