"""The incarnation on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edgeagent.mesh.incarnation import IncarnationFile


def test_what_was_written_is_read(tmp_path: Path) -> None:
    kept = IncarnationFile(tmp_path / "incarnation")
    assert kept.read() is None
    kept.write(7)
    kept.write(1 << 60)
    assert IncarnationFile(tmp_path / "incarnation").read() == 1 << 60


@pytest.mark.parametrize("torn", [b"", b"12", b"x\n", b"-4\n", b"\xff\xfe\n"])
def test_a_torn_file_is_none(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / "incarnation").write_bytes(torn)
    assert IncarnationFile(tmp_path / "incarnation").read() is None


def test_a_place_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    kept = IncarnationFile(tmp_path / "no folder" / "incarnation")
    with capture_logs() as logs:
        kept.write(1)
    assert logs[0]["log_level"] == "warning"


def test_the_newest_is_written_in_the_end(tmp_path: Path) -> None:
    kept = IncarnationFile(tmp_path / "incarnation")
    for number in range(1, 50):
        kept.write_soon(number)
    writer = kept._writer
    if writer is not None:
        writer.join(30)
    assert kept.read() == 49
