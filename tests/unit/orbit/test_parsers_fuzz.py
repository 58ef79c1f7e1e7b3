"""The invariant of every reader: a list of element sets, or ElementsRefused, and nothing else, whatever it is given."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.orbit.elements import Elements
from edgeagent.orbit.errors import ElementsRefused
from edgeagent.orbit.importer import FORMS, Form, read_elements
from edgeagent.orbit.tle import checksum
from tests.unit.orbit.samples import ISS, MOLNIYA
from tests.unit.orbit.test_omm import RECORD, as_csv, as_json, as_kvn, as_text_json, as_xml

GOOD = {
    "omm-json": [as_json(RECORD), as_text_json(RECORD, RECORD)],
    "omm-xml": [as_xml(RECORD)],
    "omm-csv": [as_csv(RECORD, RECORD)],
    "omm-kvn": [as_kvn(RECORD, RECORD)],
    "tle": ["\n".join(["ISS", *ISS, *MOLNIYA])],
}
PIECES = st.sampled_from(
    ["", "0", "-", "1e400", "nan", "null", "\n", "\r", '"', ",", "=", "[deg]", "<", ">", "&amp;", "&x;", "<segment>",
     "\0", "\x85", "\x1e", "é", "𝟗", "-1", "999999999999", "1 ", "2 ", "EPOCH", "OBJECT_NAME = A\n",
     "true", "{}", "[]", "\u2028"]
)  # fmt: skip


def check(read: Callable[[], list[Elements]]) -> None:
    """Values or a typed error that says what to do."""
    told = ""
    found: list[Elements] = []
    try:
        found = read()
    except ElementsRefused as error:
        told = error.message and error.hint
    assert found or told
    assert all(isinstance(one, Elements) for one in found)


@given(st.sampled_from([None, *FORMS]), st.one_of(st.binary(max_size=300), st.text(max_size=300)))
def test_any_content(form: Form | None, content: bytes | str) -> None:
    check(lambda: read_elements(content, form=form))


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=300)
@given(data=st.data())
def test_damaged_good_content(form: Form, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(GOOD[form]))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        until = min(len(text), at + data.draw(st.integers(0, 12)))
        text = text[:at] + data.draw(PIECES) + text[until:]
    check(lambda: read_elements(text, form=form))
    check(lambda: read_elements(text))


@given(data=st.data())
@settings(max_examples=300)
def test_damaged_lines_with_right_checksums(data: st.DataObject) -> None:
    """Behind the checksum: any printable character in any column."""
    pair = []
    for line in ISS:
        chars = list(line)
        for _ in range(data.draw(st.integers(0, 3))):
            chars[data.draw(st.integers(1, 67))] = data.draw(st.sampled_from(" 0123456789.+-AIZaeExX_é²"))
        fixed = "".join(chars)
        pair.append(fixed[:68] + str(checksum(fixed)))
    check(lambda: read_elements("\n".join(pair), form="tle"))


@given(st.dictionaries(st.sampled_from(list(RECORD)), st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=2)
), min_size=1))  # fmt: skip
def test_any_value_in_any_field(changes: dict[str, object]) -> None:
    text = json.dumps([{**RECORD, **changes}])  # NaN and infinity as Python writes them, which is no JSON
    check(lambda: read_elements(text))


@given(st.sampled_from(FORMS), st.data())
def test_refusals_that_are_collected_say_what_to_do(form: Form, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(GOOD[form]))
    at = data.draw(st.integers(0, len(text)))
    refused: list[ElementsRefused] = []
    try:
        read_elements(text[:at] + data.draw(PIECES) + text[at:], form=form, refused=refused)
    except ElementsRefused as error:  # the whole is not of this form
        refused.append(error)
    assert all(error.message and error.hint for error in refused)
