"""Two-line elements: the forms in the wild, and what is refused."""

from __future__ import annotations

import pytest

from edgeagent.orbit.errors import ElementsRefused
from edgeagent.orbit.importer import read_elements
from edgeagent.orbit.instants import parse_utc
from edgeagent.orbit.tle import checksum, elements_of_lines, from_alpha5, parse_tle
from tests.unit.orbit.samples import ISS, MOLNIYA


def _fixed(line: str) -> str:
    """The line with its checksum made right."""
    return line[:68] + str(checksum(line))


def _changed(at: int, text: str, line: str) -> str:
    """The line with ``text`` from column ``at`` (from 1) on, and a right checksum."""
    return _fixed(line[: at - 1] + text + line[at - 1 + len(text) :])


def test_every_field() -> None:
    one = elements_of_lines(*ISS, name="ISS (ZARYA)")
    assert one.norad_id == 25544
    assert one.object_id == "1998-067A"
    assert one.name == "ISS (ZARYA)"
    assert one.classification == "U"
    assert one.epoch_us == parse_utc("2019-343T16:38:29.363424")
    assert one.mean_motion_rev_day == 15.50103472
    assert one.eccentricity == 0.0007417
    assert one.inclination_deg == 51.6439
    assert one.raan_deg == 211.2001
    assert one.arg_perigee_deg == 17.6667
    assert one.mean_anomaly_deg == 85.6398
    assert one.bstar_per_er == 0.38792e-4
    assert one.mean_motion_dot_rev_day2 == 0.00001764
    assert one.mean_motion_ddot_rev_day3 == 0.0
    assert one.element_set == 999
    assert one.rev_at_epoch == 20248
    assert one.ephemeris_type == 0
    assert one.source == "tle"


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(ISS),
        "\r\n".join(ISS) + "\r\n",
        "\r".join(ISS),
        "ISS\n" + "\n".join(ISS),
        "0 ISS\n" + "\n".join(ISS),
        "ISS                     \n" + "  \n\n".join(ISS) + "\n\n",
        "# a comment\nISS\n" + "\n".join(ISS) + "\n# the end",
        "\ufeffISS\n" + "\n".join(ISS),
        f"""
            ISS
            {ISS[0]}
            {ISS[1]}
        """,
    ],
)
def test_two_and_three_lines(text: str) -> None:
    (one,) = read_elements(text)
    assert one.norad_id == 25544
    assert one.name in {"ISS", ""}


@pytest.mark.parametrize(
    "name", ["1 KUNS", "2 SATELLITES", "0", "1", "-", "STARLINK-1008", "名前", "1 44714C"]
)
def test_odd_names(name: str) -> None:
    found = parse_tle("\n".join([name, *ISS, name, *MOLNIYA, *ISS]))
    assert [(one.name, one.norad_id) for one in found] == [(name, 25544), (name, 8195), ("", 25544)]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("00005", 5), ("    5", 5), ("5    ", 5), ("99999", 99_999), ("A0000", 100_000), ("H9999", 179_999),
        ("J0000", 180_000), ("N9999", 229_999), ("P0000", 230_000), ("Z9999", 339_999), ("E8493", 148_493),
    ],
)  # fmt: skip
def test_alpha5(text: str, number: int) -> None:
    assert from_alpha5(text) == number
    one = elements_of_lines(_changed(3, text, ISS[0]), _changed(3, text, ISS[1]))
    assert one.norad_id == number


@pytest.mark.parametrize(
    "text", ["I0000", "O0000", "a0000", "AA000", "A000", "", "-0001", "1234A", "²0000", "A00 1"]
)
def test_what_is_no_catalogue_number(text: str) -> None:
    with pytest.raises(ElementsRefused, match="catalogue number"):
        from_alpha5(text)


@pytest.mark.parametrize(
    ("epoch", "utc"),
    [
        ("57001.00000000", "1957-01-01T00:00:00"), ("99365.50000000", "1999-12-31T12:00:00"),
        ("00  1.25000000", "2000-01-01T06:00:00"), ("56366.00000000", "2056-12-31T00:00:00"),
        ("24295.18312500", "2024-10-21T04:23:42"), ("24060        ", "2024-02-29T00:00:00"),
        ("24060.5      ", "2024-02-29T12:00:00"),
    ],
)  # fmt: skip
def test_epochs(epoch: str, utc: str) -> None:
    one = elements_of_lines(_changed(19, epoch.ljust(14), ISS[0]), ISS[1])
    assert one.epoch_us == parse_utc(utc)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (" 00000-0", 0.0), ("-11606-4", -0.11606e-4), ("+12345+1", 1.2345), (" 13519-0", 0.13519), ("        ", 0.0),
        (" 12345 0", 0.12345), ("-  123-3", None), (" 1234 -3", None), ("0.0000-3", None), ("-12345-", None),
        ("12345678", None), (" 12345e3", None),
    ],
)  # fmt: skip
def test_numbers_with_a_power(field: str, value: float | None) -> None:
    line = _changed(54, field.ljust(8), ISS[0])
    if value is None:
        with pytest.raises(ElementsRefused, match="bstar"):
            elements_of_lines(line, ISS[1])
    else:
        assert elements_of_lines(line, ISS[1]).bstar_per_er == value


@pytest.mark.parametrize(
    ("number", "at", "text", "match"),
    [
        (1, 19, "24000.00000000", "2024 has no day 0"),
        (1, 19, "23366.00000000", "2023 has no day 366"),
        (1, 19, "24367.00000000", "has no day"),
        (1, 19, "2x295.18312500", "epoch"),
        (1, 34, " .0000x764", "mean motion dot"),
        (1, 34, "          ", "mean motion dot"),
        (1, 63, "4", "not made for SGP4"),
        (1, 65, " x99", "element set number"),
        (1, 18, "x", "column 18"),
        (1, 44, "1", "column 44"),
        (2, 9, "200.0000", "inclination_deg"),
        (2, 9, " -1.0000", "inclination_deg"),
        (2, 18, "361.0000", "raan_deg"),
        (2, 18, "nan     ", "right ascension"),
        (2, 18, "1e1.0000", "right ascension"),
        (2, 27, "000x417", "eccentricity"),
        (2, 27, "       ", "eccentricity"),
        (2, 53, "00.00000000", "mean_motion"),
        (2, 53, "           ", "mean motion"),
        (2, 53, "99.00000000", "mean_motion"),
        (2, 64, "  x  ", "revolution number"),
        (2, 3, "25545", "do not belong together"),
    ],
)
def test_fields_that_are_refused(number: int, at: int, text: str, match: str) -> None:
    pair = list(ISS)
    pair[number - 1] = _changed(at, text, pair[number - 1])
    with pytest.raises(ElementsRefused, match=match) as raised:
        parse_tle("SAT\n" + "\n".join(pair))
    assert raised.value.message.startswith("tle, lines 2-3 (SAT): ")
    assert raised.value.details["line"] == 1
    assert raised.value.hint


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (ISS[0], "line 1: a line 1 without its line 2"),
        (ISS[1], "line 1: a line 2 without its line 1"),
        (ISS[0] + "\n" + ISS[0], "a line 1 without"),
        (ISS[1] + "\n" + ISS[0], "a line 2 without"),
        ("hello\nworld", "followed by no element set"),
        (ISS[0][:60] + "\n" + ISS[1], "60 columns"),
        (ISS[0][:68] + "\n" + ISS[1], "68 columns"),
        (ISS[0] + "0\n" + ISS[1], "70 columns"),
        (ISS[0][:68] + "2\n" + ISS[1], "checksum is '2', the line adds up to 1"),
        (ISS[0].replace("98067A", "98067é") + "\n" + ISS[1], "ASCII"),
        (ISS[0].replace("98067A", "98\t67A") + "\n" + ISS[1], "ASCII"),
        ("x" * 200 + "\n" + "\n".join(ISS), "name"),
    ],
)
def test_lines_that_are_refused(text: str, match: str) -> None:
    with pytest.raises(ElementsRefused, match=match):
        parse_tle(text)


def test_checksums_can_be_let_through() -> None:
    text = ISS[0][:68] + "2\n" + ISS[1][:68]
    assert len(parse_tle(text, checksums=False)) == 1


def test_one_bad_set_does_not_take_the_others_with_it() -> None:
    refused: list[ElementsRefused] = []
    bad = ISS[0][:68] + "2"
    text = "\n".join(["A", *ISS, "B", bad, ISS[1], ISS[1], "stray", "C", *MOLNIYA, ISS[0]])
    found = parse_tle(text, refused=refused, source="here")
    assert [one.name for one in found] == ["A", "C"]
    assert {one.source for one in found} == {"here"}
    assert [error.details["line"] for error in refused] == [4, 7, 8, 12]


def test_repeats_are_kept_in_order() -> None:
    found = parse_tle("\n".join([*ISS, *ISS]))
    assert [one.key for one in found] == ["norad:25544"] * 2


@pytest.mark.parametrize("designator", ["        ", "80275A  ", "22001AAA", "TBA     "])
def test_designators(designator: str) -> None:
    one = elements_of_lines(_changed(10, designator, ISS[0]), ISS[1])
    known = {"80275A": "1980-275A", "22001AAA": "2022-001AAA"}
    assert one.object_id == known.get(designator.strip(), designator.strip())
