"""OMM as CSV: a header of OMM field names, then one line an object (CelesTrak's FORMAT=CSV)."""

from __future__ import annotations

import csv
import io
from functools import partial

from edgeagent.orbit.elements import Elements
from edgeagent.orbit.errors import ElementsRefused
from edgeagent.orbit.omm import Collector, from_fields

__all__ = ["parse_omm_csv"]

FORM = "omm-csv"


def _refuse(message: str, hint: str) -> ElementsRefused:
    return ElementsRefused(f"{FORM}: {message}", hint=hint, format=FORM)


def _header(rows: csv.DictReader[str]) -> list[str]:
    names = [name.strip().upper() for name in rows.fieldnames or []]
    if "EPOCH" not in names:
        raise _refuse("the first line has no EPOCH", "begin with a line of OMM field names")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _refuse(f"column {twice[0]!r:.40} is there twice", "remove one")
    return names


def _build(record: dict[str | None, object], source: str) -> Elements:
    if None in record:
        raise ElementsRefused("more values than columns", hint="quote values that hold commas")
    if any(value is None for value in record.values()):
        raise ElementsRefused("fewer values than columns", hint="check the download")
    return from_fields({str(key): value for key, value in record.items()}, source=source)


def parse_omm_csv(
    text: str, *, source: str = "", refused: list[ElementsRefused] | None = None
) -> list[Elements]:
    """The element sets of an OMM CSV document.

    Raises ElementsRefused for a missing header, broken quoting, and for a bad line; with a list ``refused`` bad
    lines are appended to it and the others are returned.
    """
    found = Collector(FORM, refused)
    body = text.lstrip()
    before = text[: len(text) - len(body)].count("\n")
    rows: csv.DictReader[str] = csv.DictReader(io.StringIO(body, newline=""), strict=True)
    try:
        rows.fieldnames = _header(rows)
        for record in rows:
            line = before + rows.line_num
            found.add(f"line {line}", partial(_build, dict(record), source or FORM), line=line)
    except csv.Error as error:
        raise _refuse(
            f"line {before + rows.reader.line_num}: {error}", "check quotes and line ends"
        ) from None
    return found.elements
