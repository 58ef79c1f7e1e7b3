"""Element sets from text of any known form: OMM as JSON, XML, CSV or KVN; TLE. The first characters tell which."""

from __future__ import annotations

import re
from typing import Literal

from edgeagent.orbit.elements import Elements
from edgeagent.orbit.errors import ElementsRefused
from edgeagent.orbit.omm import INPUT_BYTES_MAX
from edgeagent.orbit.omm_csv import parse_omm_csv
from edgeagent.orbit.omm_json import parse_omm_json
from edgeagent.orbit.omm_kvn import parse_omm_kvn
from edgeagent.orbit.omm_xml import parse_omm_xml
from edgeagent.orbit.tle import parse_tle

__all__ = ["FORMS", "Form", "form_of", "read_elements"]

Form = Literal["omm-json", "omm-xml", "omm-csv", "omm-kvn", "tle"]
FORMS: tuple[Form, ...] = ("omm-json", "omm-xml", "omm-csv", "omm-kvn", "tle")

_BOM = b"\xef\xbb\xbf"
_KVN = re.compile(rb"\s*(COMMENT\b|[A-Z_]{4,}\s*=)")
_UTF16 = (b"\xff\xfe", b"\xfe\xff", b"<\x00", b"\x00<")


def form_of(data: bytes) -> Form:
    """The form that a text seems to have; TLE where nothing speaks for another."""
    head = data.removeprefix(_BOM)[:4096].lstrip()
    if head.startswith((b"<", *_UTF16)):
        return "omm-xml"
    if head.startswith((b"[", b"{")):
        return "omm-json"
    first = head.partition(b"\n")[0]
    if b"," in first and b"EPOCH" in first.upper():
        return "omm-csv"
    if any(_KVN.match(line) for line in head.split(b"\n")[:8]):
        return "omm-kvn"
    return "tle"


def read_elements(
    data: bytes | str,
    *,
    form: Form | None = None,
    source: str = "",
    refused: list[ElementsRefused] | None = None,
) -> list[Elements]:
    """The element sets of a file's or a reply's content.

    ``source`` is noted in each set (default: the form). Raises ElementsRefused when the whole is not of the form or
    a record is bad; with a list ``refused`` bad records are appended to it and the good ones are returned. Text
    without any record is refused, too: an empty reply is a failed download.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else bytes(data)
    if len(raw) > INPUT_BYTES_MAX:
        raise ElementsRefused(
            f"{len(raw)} bytes are over the limit of {INPUT_BYTES_MAX}", hint="split the input"
        )
    form = form or form_of(raw)
    if form == "omm-xml":
        whole = data.lstrip("\ufeff \t\r\n") if isinstance(data, str) else raw.lstrip()
        return parse_omm_xml(whole, source=source, refused=refused)
    raw = raw.removeprefix(_BOM)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ElementsRefused(
            f"{form}, line {line}: not UTF-8", hint="check the download", line=line
        ) from None
    before = len(refused or ())
    if form == "omm-json":
        found = parse_omm_json(raw, source=source, refused=refused)
    elif form == "omm-csv":
        found = parse_omm_csv(text, source=source, refused=refused)
    elif form == "omm-kvn":
        found = parse_omm_kvn(text, source=source, refused=refused)
    else:
        found = parse_tle(text, source=source, refused=refused)
    if not found and len(refused or ()) == before:
        raise ElementsRefused(
            f"{form}: no element set in {len(raw)} bytes", hint="check the download", form=form
        )
    return found
