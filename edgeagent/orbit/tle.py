"""Two-line elements, with or without a name line before them: strict columns, checksums, Alpha-5 catalogue numbers.

The layout is that of Space-Track's and CelesTrak's documentation of the format; columns count from 1 in messages.
Since 2026 new objects get catalogue numbers that no TLE can hold (above 339999): prefer OMM.
"""

from __future__ import annotations

import re
from functools import partial

from edgeagent.orbit.elements import Elements
from edgeagent.orbit.errors import ElementsRefused
from edgeagent.orbit.instants import DAY_US, us_of_date
from edgeagent.orbit.omm import Collector

__all__ = ["checksum", "elements_of_lines", "from_alpha5", "parse_tle"]

FORM = "tle"
_LINE_CHARS = 69
_ALPHA5 = "ABCDEFGHJKLMNPQRSTUVWXYZ"  # without I and O
_BLANKS = {1: (2, 9, 18, 33, 44, 53, 62, 64), 2: (2, 8, 17, 26, 34, 43, 52)}
_DECIMAL = re.compile(r" *[+-]? *\d*\.\d* *", re.ASCII)
_POWER = re.compile(r"([ +-])([\d ]\d{4})([ +-])(\d)", re.ASCII)
_EPOCH = re.compile(r"(\d\d)(\d{3}| \d\d|  \d)(?:\.(\d*))? *", re.ASCII)
_DESIGNATOR = re.compile(r"(\d\d)(\d{3})([A-Z]{0,3})", re.ASCII)
_CHECKSUM_HINT = "the line is damaged: fetch it again"


def _refuse(field: str, value: str, problem: str, hint: str = "check the download") -> ElementsRefused:
    return ElementsRefused(f"{field} is {value!r:.40}, {problem}", hint=hint, field=field)


def checksum(line: str) -> int:
    """The sum of the digits of the first 68 columns, a minus counting 1, modulo 10."""
    return sum(int(char) if "0" <= char <= "9" else char == "-" for char in line[: _LINE_CHARS - 1]) % 10


def from_alpha5(text: str) -> int:
    """A catalogue number of five columns: digits, or a letter (no I, no O) for the leading 10 to 33 and four digits."""
    bare = text.strip()
    if re.fullmatch(r"\d{1,5}", bare, re.ASCII):
        return int(bare)
    if re.fullmatch(rf"[{_ALPHA5}]\d{{4}}", bare, re.ASCII):
        return (10 + _ALPHA5.index(bare[0])) * 10_000 + int(bare[1:])
    raise _refuse(
        "catalogue number",
        text,
        "neither digits nor Alpha-5",
        "Alpha-5 is a capital letter but I and O, and 4 digits",
    )


def _check_line(line: str, number: int, checksums: bool) -> None:
    if not line.isascii() or not line.isprintable():
        raise _refuse("line", line, "a TLE holds printable ASCII only")
    if len(line) != _LINE_CHARS and not (len(line) == _LINE_CHARS - 1 and not checksums):
        raise ElementsRefused(
            f"the line has {len(line)} columns, it must have {_LINE_CHARS}", hint="check the download"
        )
    for column in _BLANKS[number]:
        if line[column - 1] != " ":
            raise _refuse(f"column {column}", line[column - 1], "it must be blank: the columns are shifted")
    if checksums and line[-1] != str(checksum(line)):
        raise _refuse("checksum", line[-1], f"the line adds up to {checksum(line)}", _CHECKSUM_HINT)


def _decimal(field: str, text: str) -> float:
    bare = text.replace(" ", "")
    if not _DECIMAL.fullmatch(text) or not any(char.isdigit() for char in bare):
        raise _refuse(field, text, "it must be a decimal number")
    return float(bare)


def _power(field: str, text: str) -> float:
    """`` 12345-6`` is 0.12345e-6."""
    if not text.strip():
        return 0.0
    match = _POWER.fullmatch(text)
    if match is None:
        raise _refuse(field, text, "it must be like ' 12345-6', which means 0.12345e-6")
    sign, digits, power_sign, power = match.groups()
    value = float(f"0.{digits.replace(' ', '0')}e{power_sign.strip()}{power}")
    return -value if sign == "-" else value


def _whole(field: str, text: str) -> int:
    bare = text.strip()
    if bare and not re.fullmatch(r"\d+", bare, re.ASCII):
        raise _refuse(field, text, "it must be a whole number")
    return int(bare or "0")


def _epoch_us(text: str) -> int:
    match = _EPOCH.fullmatch(text)
    if match is None:
        raise _refuse("epoch", text, "it must be like 24295.18312500, year and day of the year")
    year = int(match[1]) + (1900 if int(match[1]) >= 57 else 2000)
    day, fraction = int(match[2]), match[3] or "0"
    start = us_of_date(year, 1, 1)
    if not 1 <= day <= (us_of_date(year + 1, 1, 1) - start) // DAY_US:
        raise _refuse("epoch", text, f"{year} has no day {day}")
    scale: int = 10 ** len(fraction)
    return start + (day - 1) * DAY_US + (int(fraction) * 2 * DAY_US + scale) // (2 * scale)


def _designator(text: str) -> str:
    """``98067A`` as ``1998-067A``; anything else that is printable as it stands."""
    bare = text.strip()
    match = _DESIGNATOR.fullmatch(bare)
    if match is None:
        return bare
    return f"{'19' if int(match[1]) >= 57 else '20'}{match[1]}-{match[2]}{match[3]}"


def elements_of_lines(
    line1: str, line2: str, *, name: str = "", source: str = FORM, checksums: bool = True
) -> Elements:
    """The element set of two lines of 69 columns (trailing blanks may follow). Raises ElementsRefused.

    ``checksums=False`` lets lines through whose checksum is wrong or missing.
    """
    pair = []
    for number, line in enumerate((line1.rstrip(), line2.rstrip()), 1):
        try:
            if not line.startswith(f"{number} "):
                raise _refuse(
                    "column 1", line[:2], f"line {number} of an element set begins with '{number} '"
                )
            _check_line(line, number, checksums)
        except ElementsRefused as error:
            raise error.at(f"line {number} of the set") from None
        pair.append(line)
    one, two = pair
    norad_id = from_alpha5(one[2:7])
    if from_alpha5(two[2:7]) != norad_id:
        raise _refuse(
            "catalogue number", two[2:7], f"line 1 has {one[2:7]!r}: these lines do not belong together"
        )
    if not re.fullmatch(r" *\d{1,7}", two[26:33], re.ASCII):
        raise _refuse("eccentricity", two[26:33], "it must be 7 digits, the decimal point left out")
    return Elements(
        epoch_us=_epoch_us(one[18:32]),
        mean_motion_rev_day=_decimal("mean motion", two[52:63]),
        eccentricity=float("0." + two[26:33].replace(" ", "0")),
        inclination_deg=_decimal("inclination", two[8:16]),
        raan_deg=_decimal("right ascension of the node", two[17:25]),
        arg_perigee_deg=_decimal("argument of perigee", two[34:42]),
        mean_anomaly_deg=_decimal("mean anomaly", two[43:51]),
        bstar_per_er=_power("bstar", one[53:61]),
        mean_motion_dot_rev_day2=_decimal("mean motion dot", one[33:43]),
        mean_motion_ddot_rev_day3=_power("mean motion double dot", one[44:52]),
        norad_id=norad_id,
        object_id=_designator(one[9:17]),
        name=name,
        classification=one[7].strip() or "U",
        element_set=_whole("element set number", one[64:68]),
        rev_at_epoch=_whole("revolution number", two[63:68]),
        ephemeris_type=_whole("ephemeris type", one[62]),
        source=source,
    )


def _is(line: str, number: int) -> bool:
    return line.startswith(f"{number} ")


def _name_of(line: str) -> str:
    """The name on a line 0: Space-Track writes a zero and a blank before it."""
    return line[2:].strip() if line.startswith("0 ") else line.strip()


class _Lines:
    """The lines that hold something, with their numbers; comments (#) are left out."""

    def __init__(self, text: str) -> None:
        rows = enumerate(re.split(r"\r\n|\n|\r", text), 1)
        bare = [(number, row.strip()) for number, row in rows]
        self.rows = [(number, row) for number, row in bare if row and not row.startswith("#")]

    def line(self, at: int) -> str:
        return self.rows[at][1] if at < len(self.rows) else ""

    def pair_at(self, at: int) -> bool:
        return _is(self.line(at), 1) and _is(self.line(at + 1), 2)


def _orphan(message: str) -> Elements:
    raise ElementsRefused(
        message, hint="an element set is line 1 and line 2, with or without a name before them"
    )


def parse_tle(
    text: str,
    *,
    source: str = "",
    refused: list[ElementsRefused] | None = None,
    checksums: bool = True,
) -> list[Elements]:
    """The element sets of a text of 2 or 3 lines an object, mixed as they may be, in their order, repeats included.

    Raises ElementsRefused for a bad set or a line without its fellow; with a list ``refused`` these are appended to
    it and the others are returned. :func:`edgeagent.orbit.elements.newest` takes the repeats out.
    """
    found = Collector(FORM, refused)
    lines = _Lines(text)
    at = 0
    while at < len(lines.rows):
        number, line = lines.rows[at]
        # A name may begin with "1 " or "2 ", too: it is one if a pair follows and it is no line of a set itself.
        named = lines.pair_at(at + 1) and not lines.pair_at(at)
        named = named and (not line.startswith(("1 ", "2 ")) or len(line) < _LINE_CHARS - 1)
        if lines.pair_at(at + named):
            name = _name_of(line) if named else ""
            one, two = lines.line(at + named), lines.line(at + named + 1)
            build = partial(
                elements_of_lines, one, two, name=name, source=source or FORM, checksums=checksums
            )
            place = f"lines {lines.rows[at + named][0]}-{lines.rows[at + named + 1][0]}"
            found.add(place + (f" ({name:.40})" if name else ""), build, line=number)
            at += named + 2
            continue
        if _is(line, 1):
            problem = "a line 1 without its line 2"
        elif _is(line, 2):
            problem = "a line 2 without its line 1"
        else:
            problem = f"{line[:40]!r} is followed by no element set"
        found.add(f"line {number}", partial(_orphan, problem), line=number)
        at += 1
    return found.elements
