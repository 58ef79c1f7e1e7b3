"""A node's calibration on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeagent.hose.settings import CALIBRATION, Crossovers, load_crossovers, save_crossovers
from edgeagent.model.errors import BadConfig


def test_defaults_without_a_calibration(tmp_path: Path) -> None:
    assert load_crossovers(tmp_path) == Crossovers()


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    mine = Crossovers(flip_bytes_min=1 << 20, loan_bytes_min=3 << 20)
    assert save_crossovers(tmp_path, mine) == tmp_path / CALIBRATION
    assert load_crossovers(tmp_path) == mine
    assert [path.name for path in tmp_path.iterdir()] == [CALIBRATION]


@pytest.mark.parametrize("text", ["", "{", '{"flip_bytes_min": "x"}', '{"unknown": 1}'])
def test_a_damaged_calibration_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / CALIBRATION).write_text(text, encoding="utf-8")
    with pytest.raises(BadConfig, match=r"hose\.json is not a calibration") as caught:
        load_crossovers(tmp_path)
    assert "--calibrate" in caught.value.hint
