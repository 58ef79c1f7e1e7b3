"""The document's diagram and tables are the code's (edgeagent/gossip/diagram.py says how to write them again)."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from edgeagent.gossip.diagram import filled, knob_notes, knob_values, mermaid
from edgeagent.gossip.knobs import KNOB_NOTES, Knobs
from edgeagent.gossip.presets import PRESETS
from edgeagent.gossip.states import TRANSITIONS

DOCUMENT = Path(__file__).parents[3] / "docs" / "gossip.md"


def test_the_document_equals_what_is_generated() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert set(re.findall(r"<!-- generated: (\w+) -->", text)) == {
        "knobs",
        "presets",
        "states",
        "transitions",
    }
    assert filled(text) == text
    for part in (mermaid(), knob_notes(), knob_values()):
        assert part in text


def test_a_document_that_is_behind_is_noticed() -> None:
    text = "a\n<!-- generated: states -->\nof yore\n<!-- end -->\nb"
    assert "of yore" not in filled(text)
    assert filled(text).startswith("a\n")
    assert filled(text).endswith("b")
    with pytest.raises(KeyError):
        filled("<!-- generated: nonsense -->\n<!-- end -->")


def test_every_arrow_is_drawn() -> None:
    drawn = mermaid().splitlines()
    assert len(drawn) == len(TRANSITIONS) + 4
    assert "    occluded --> suspect: probe failed" in drawn


def test_every_knob_is_in_the_table_with_every_preset() -> None:
    assert set(KNOB_NOTES) == {field.name for field in msgspec.structs.fields(Knobs)}
    rows = knob_values().splitlines()
    assert rows[0] == "| knob | " + " | ".join(PRESETS) + " |"
    assert "| `probe_interval_s` | 0.2 | 1 | 5 | 5 |" in rows
    assert "| `nacks` | on | on | on | on |" in rows
    assert "| `occlusion_unknown_max_s` | 86,400 | 86,400 | 86,400 | 86,400 |" in rows


def test_the_example_runs() -> None:
    example = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    names: dict[str, object] = {}
    exec(example[1], names)  # the document's own text
    assert names["effects"]
