"""OMM as KVN: ``KEYWORD = value [unit]`` lines (CCSDS 502.0-B, 7.4); a file may hold many messages.

A message begins with CCSDS_OMM_VERS, or, in files that leave the headers out, with an OBJECT_NAME after a whole set.
"""

from __future__ import annotations

import re
from functools import partial

from edgeagent.orbit.elements import Elements
from edgeagent.orbit.errors import ElementsRefused
from edgeagent.orbit.omm import Collector, check_unit, from_fields

__all__ = ["parse_omm_kvn"]

FORM = "omm-kvn"
_LINE = re.compile(r"\s*([A-Z][A-Z0-9_]*)\s*=\s*(.*?)\s*", re.ASCII | re.IGNORECASE)
_UNIT = re.compile(r"(.*?)\s*\[([^\[\]]*)\]")
_BEGINS = re.compile(r"(?:(CCSDS_OMM_VERS)|OBJECT_NAME)\s*=", re.IGNORECASE)
_TEXTS = {"OBJECT_NAME", "OBJECT_ID", "ORIGINATOR", "CLASSIFICATION_TYPE"}  # brackets may belong to a name


class _Message:
    def __init__(self, line: int) -> None:
        self.line = line
        self.fields: dict[str, object] = {}
        self.problem: ElementsRefused | None = None

    def take(self, number: int, line: str) -> None:
        match = _LINE.fullmatch(line)
        if match is None:
            self._fault(number, f"{line.strip()[:40]!r} is not KEYWORD = value", "remove it")
            return
        field, value = match[1].upper(), match[2]
        if field in self.fields and not field.startswith("USER_DEFINED"):
            self._fault(number, f"{field} is there twice", "begin every message with CCSDS_OMM_VERS")
        if field not in _TEXTS and (unit := _UNIT.fullmatch(value)):
            value = unit[1]
            try:
                check_unit(field, unit[2])
            except ElementsRefused as error:
                self.problem = self.problem or error.at(f"line {number}")
        self.fields[field] = value

    def _fault(self, number: int, message: str, hint: str) -> None:
        self.problem = self.problem or ElementsRefused(f"line {number}: {message}", hint=hint)

    def elements(self, source: str) -> Elements:
        if self.problem is not None:
            raise self.problem
        version = str(self.fields.get("CCSDS_OMM_VERS", "2.0"))
        if not re.fullmatch(r"[123](\.\d{1,3})?", version):
            raise ElementsRefused(
                f"CCSDS_OMM_VERS is {version!r:.40}, versions 1 to 3 are known",
                hint="convert the message",
                field="CCSDS_OMM_VERS",
            )
        return from_fields(self.fields, source=source)


def _messages(text: str) -> list[_Message]:
    messages: list[_Message] = []
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if not bare or re.match(r"COMMENT\b", bare) or bare.startswith("#"):
            continue
        begins = _BEGINS.match(bare)
        known = messages[-1].fields if messages else {}
        if not messages or (begins and (begins[1] or "OBJECT_NAME" in known)):
            messages.append(_Message(number))
        messages[-1].take(number, line)
    return messages


def parse_omm_kvn(
    text: str, *, source: str = "", refused: list[ElementsRefused] | None = None
) -> list[Elements]:
    """The element sets of one or many OMM KVN messages.

    Raises ElementsRefused for a bad message; with a list ``refused`` bad ones are appended to it and the others are
    returned.
    """
    found = Collector(FORM, refused)
    for message in _messages(text):
        place = f"message at line {message.line}"
        found.add(place, partial(message.elements, source or FORM), line=message.line)
    return found.elements
