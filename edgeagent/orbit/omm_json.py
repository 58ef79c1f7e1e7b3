"""OMM as JSON: a list of flat objects, or one, with numbers (CelesTrak) or with numbers as text (Space-Track)."""

from __future__ import annotations

from functools import partial

import msgspec

from edgeagent.orbit.elements import Elements
from edgeagent.orbit.errors import ElementsRefused
from edgeagent.orbit.omm import Collector, from_fields

__all__ = ["parse_omm_json"]

FORM = "omm-json"


def parse_omm_json(
    data: bytes, *, source: str = "", refused: list[ElementsRefused] | None = None
) -> list[Elements]:
    """The element sets of an OMM JSON document.

    Raises ElementsRefused for text that is not JSON or not a list of objects, and for a bad record; with a list
    ``refused`` bad records are appended to it and the others are returned.
    """
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ElementsRefused(f"{FORM}: not JSON: {error}", hint="check the download", format=FORM) from None
    records = [document] if isinstance(document, dict) else document
    if not isinstance(records, list):
        raise ElementsRefused(
            f"{FORM}: a list of objects is expected, not {type(document).__name__}",
            hint="give the OMM records as a JSON list",
            format=FORM,
        )
    found = Collector(FORM, refused)
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            found.add(f"record {number}", partial(_no_object, record), record=number)
            continue
        name = record.get("OBJECT_NAME")
        place = f"record {number}" + (f" ({name!s:.40})" if name else "")
        found.add(place, partial(from_fields, record, source=source or FORM), record=number)
    return found.elements


def _no_object(record: object) -> Elements:
    raise ElementsRefused(f"an object is expected, not {type(record).__name__}", hint="remove it")
