"""OMM as XML: one ``omm`` document or an ``ndm`` of many; each ``segment`` is an element set.

Read by expat as a stream of events. A document type declaration is refused before anything in it is looked at: with
it go entities, their expansion, and external files. Depth and size are bounded.
"""

from __future__ import annotations

from functools import partial
from xml.parsers import expat

from edgeagent.orbit.elements import Elements
from edgeagent.orbit.errors import ElementsRefused
from edgeagent.orbit.omm import Collector, check_unit, from_fields

__all__ = ["parse_omm_xml"]

FORM = "omm-xml"
_DEPTH_MAX = 32
_VALUE_CHARS_MAX = 4096
_ELSEWHERE = {"covarianceMatrix", "spacecraftParameters", "userDefinedParameters"}


def _refuse(message: str, hint: str, line: int) -> ElementsRefused:
    return ElementsRefused(f"{FORM}, line {line}: {message}", hint=hint, format=FORM, line=line)


class _Segments:
    """The handlers: collects the leaf elements of each segment."""

    def __init__(self, parser: expat.XMLParserType, found: Collector, source: str) -> None:
        self._parser = parser
        self._found = found
        self._source = source
        self._path: list[str] = []
        self._text: list[str] = []
        self._chars = 0
        self._fields: dict[str, object] | None = None
        self._problem: ElementsRefused | None = None
        self._begun = 0
        self.count = 0
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._data

    def _doctype(self, *_: object) -> None:
        raise _refuse(
            "a document type declaration is not accepted",
            "remove the DOCTYPE; element sets need no entities",
            self._parser.CurrentLineNumber,
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        line = self._parser.CurrentLineNumber
        tag = tag.rpartition(":")[2]
        self._path.append(tag)
        if len(self._path) > _DEPTH_MAX:
            raise _refuse(f"nested deeper than {_DEPTH_MAX}", "check the download", line)
        self._text, self._chars = [], 0
        if tag == "segment":
            if self._fields is not None:
                raise _refuse("a segment inside a segment", "check the download", line)
            self._fields, self._problem, self._begun = {}, None, line
        elif self._fields is not None and "units" in attributes:
            try:
                check_unit(tag, attributes["units"])
            except ElementsRefused as error:
                self._problem = self._problem or error

    def _data(self, text: str) -> None:
        self._chars += len(text)
        if self._chars > _VALUE_CHARS_MAX:
            raise _refuse("a value is too long", "check the download", self._parser.CurrentLineNumber)
        self._text.append(text)

    def _end(self, tag: str) -> None:
        tag = tag.rpartition(":")[2]
        self._path.pop()
        value, self._text, self._chars = "".join(self._text).strip(), [], 0
        if self._fields is None:
            return
        if tag == "segment":
            self.count += 1
            place = f"segment {self.count} at line {self._begun}"
            self._found.add(place, partial(self._elements, self._fields, self._problem), line=self._begun)
            self._fields = None
        elif tag.isupper() and tag != "COMMENT" and not _ELSEWHERE.intersection(self._path):
            if tag in self._fields:
                self._problem = self._problem or ElementsRefused(
                    f"{tag} is there twice", hint="remove one", field=tag
                )
            self._fields[tag] = value

    def _elements(self, fields: dict[str, object], problem: ElementsRefused | None) -> Elements:
        if problem is not None:
            raise problem
        return from_fields(fields, source=self._source)


def parse_omm_xml(
    data: bytes | str, *, source: str = "", refused: list[ElementsRefused] | None = None
) -> list[Elements]:
    """The element sets of an OMM or NDM XML document, bytes in any encoding that expat knows.

    Raises ElementsRefused for text that is not well-formed, has a DOCTYPE or no segment, and for a bad segment; with
    a list ``refused`` bad segments are appended to it and the others are returned.
    """
    found = Collector(FORM, refused)
    parser = expat.ParserCreate("utf-8" if isinstance(data, str) else None)
    parser.buffer_text = True
    segments = _Segments(parser, found, source or FORM)
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        what = expat.ErrorString(error.code)
        raise _refuse(f"not well-formed XML: {what}", "check the download", error.lineno) from None
    except (LookupError, ValueError) as error:
        # An encoding that Python does not know, or not as expat needs it.
        raise _refuse(f"encoding: {error}", "use UTF-8", parser.CurrentLineNumber) from None
    if not segments.count:
        raise _refuse("no segment", "give OMM documents (omm, or ndm with omm inside)", 1)
    return found.elements
