"""OMM in its four forms: the same set from each, and what is refused, with its place."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from edgeagent.orbit.elements import Elements
from edgeagent.orbit.errors import ElementsRefused
from edgeagent.orbit.importer import form_of, read_elements
from edgeagent.orbit.instants import parse_utc
from edgeagent.orbit.omm import RECORDS_MAX, Collector, from_fields, omm_fields
from tests.unit.orbit.samples import elements, lines

# As CelesTrak's gp.php gives the ISS in each of its formats (values of 2020-12-24).
RECORD: dict[str, Any] = {
    "OBJECT_NAME": "ISS (ZARYA)",
    "OBJECT_ID": "1998-067A",
    "EPOCH": "2020-12-24T04:46:33.160896",
    "MEAN_MOTION": 15.49235748,
    "ECCENTRICITY": 0.0001393,
    "INCLINATION": 51.6444,
    "RA_OF_ASC_NODE": 130.5471,
    "ARG_OF_PERICENTER": 138.9264,
    "MEAN_ANOMALY": 322.1226,
    "EPHEMERIS_TYPE": 0,
    "CLASSIFICATION_TYPE": "U",
    "NORAD_CAT_ID": 25544,
    "ELEMENT_SET_NO": 999,
    "REV_AT_EPOCH": 26143,
    "BSTAR": 2.0331e-05,
    "MEAN_MOTION_DOT": 9.36e-06,
    "MEAN_MOTION_DDOT": 0,
}
META = {"CENTER_NAME": "EARTH", "REF_FRAME": "TEME", "TIME_SYSTEM": "UTC", "MEAN_ELEMENT_THEORY": "SGP4"}
UNITS = {"MEAN_MOTION": "rev/day", "INCLINATION": "deg", "MEAN_MOTION_DOT": "rev/day**2", "BSTAR": "1/ER"}


def as_json(*records: dict[str, Any]) -> str:
    return json.dumps(list(records))


def as_text_json(*records: dict[str, Any]) -> str:
    """As Space-Track does: numbers as text, more fields, nulls."""
    more = {"COMMENT": "GENERATED VIA SPACE-TRACK.ORG API", "DECAY_DATE": None, "TLE_LINE0": "0 ISS (ZARYA)"}
    return json.dumps(
        [{**more, **META, **{k: None if v is None else str(v) for k, v in r.items()}} for r in records]
    )


def as_csv(*records: dict[str, Any]) -> str:
    rows = [",".join(records[0])]
    rows += [",".join("" if value is None else str(value) for value in record.values()) for record in records]
    return "\r\n".join(rows) + "\r\n"


def as_kvn(*records: dict[str, Any]) -> str:
    rows = []
    for record in records:
        rows += ["CCSDS_OMM_VERS = 2.0", "COMMENT made for a test", "CREATION_DATE = 2020-12-24T05:00:00"]
        rows += ["ORIGINATOR = TEST", ""]
        for key, value in {**META, **record}.items():
            unit = f" [{UNITS[key]}]" if key in UNITS else ""
            rows.append(f"{key:<20} = {'' if value is None else value}{unit}")
    return "\n".join(rows)


def as_xml(*records: dict[str, Any]) -> str:
    def leaves(names: list[str], record: dict[str, Any]) -> str:
        units = {name: f' units="{UNITS[name]}"' if name in UNITS else "" for name in names}
        return "".join(
            f"<{name}{units[name]}>{'' if record[name] is None else record[name]}</{name}>"
            for name in names
            if name in record
        )

    omms = []
    for record in records:
        whole = {**META, **record}
        mean = [k for k in whole if k in list(RECORD)[2:9]]
        meta = [k for k in whole if k in {"OBJECT_NAME", "OBJECT_ID", *META}]
        tle = [k for k in whole if k not in {*mean, *meta}]
        omms.append(
            '<omm id="CCSDS_OMM_VERS" version="2.0"><header><CREATION_DATE/><ORIGINATOR/></header><body><segment>'
            f"<metadata>{leaves(meta, whole)}</metadata><data><meanElements><COMMENT>mean</COMMENT>"
            f"{leaves(mean, whole)}</meanElements><tleParameters>{leaves(tle, whole)}</tleParameters>"
            '<userDefinedParameters><USER_DEFINED parameter="A">1</USER_DEFINED>'
            '<USER_DEFINED parameter="B">2</USER_DEFINED></userDefinedParameters></data></segment></body></omm>'
        )
    schema = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<ndm {schema}>{"".join(omms)}</ndm>'


FORMS = {"json": as_json, "text-json": as_text_json, "csv": as_csv, "kvn": as_kvn, "xml": as_xml}


def _with(**changes: Any) -> dict[str, Any]:
    return {**RECORD, **changes}


@pytest.mark.parametrize("form", list(FORMS))
def test_all_forms_give_the_same_set(form: str) -> None:
    (one,) = read_elements(FORMS[form](RECORD), source="celestrak")
    assert one == Elements(
        epoch_us=parse_utc("2020-12-24T04:46:33.160896"),
        mean_motion_rev_day=15.49235748,
        eccentricity=0.0001393,
        inclination_deg=51.6444,
        raan_deg=130.5471,
        arg_perigee_deg=138.9264,
        mean_anomaly_deg=322.1226,
        bstar_per_er=2.0331e-05,
        mean_motion_dot_rev_day2=9.36e-06,
        norad_id=25544,
        object_id="1998-067A",
        name="ISS (ZARYA)",
        element_set=999,
        rev_at_epoch=26143,
        source="celestrak",
    )


@pytest.mark.parametrize("form", list(FORMS))
def test_many_records_keep_their_order(form: str) -> None:
    records = [
        _with(NORAD_CAT_ID=n, OBJECT_NAME=f"SAT {n} [DTC]") for n in (999_999_999, 5, 339_999, 340_000)
    ]
    found = read_elements(FORMS[form](*records))
    assert [one.norad_id for one in found] == [999_999_999, 5, 339_999, 340_000]
    assert found[0].name == "SAT 999999999 [DTC]"


@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize(
    "epoch", ["2020-12-24T04:46:33", "2020-12-24T04:46:33Z", "2020-12-24T04:46:33.5Z", "2020-359T04:46:33.5"]
)
def test_epochs_with_and_without_fraction_or_z(form: str, epoch: str) -> None:
    (one,) = read_elements(FORMS[form](_with(EPOCH=epoch)))
    assert one.epoch_us == parse_utc(epoch)


@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"EPOCH": "yesterday"}, "EPOCH: 'yesterday' is not a time"),
        ({"EPOCH": None}, "EPOCH is missing"),
        ({"MEAN_MOTION": "fast"}, "MEAN_MOTION is 'fast', it must be a finite decimal number"),
        ({"MEAN_MOTION": "NaN"}, "MEAN_MOTION"),
        ({"MEAN_MOTION": "1e999"}, "MEAN_MOTION"),
        ({"MEAN_MOTION": "0x10"}, "MEAN_MOTION"),
        ({"MEAN_MOTION": None}, "MEAN_MOTION is missing"),
        ({"BSTAR": None}, "BSTAR is missing"),
        ({"ECCENTRICITY": "1.5"}, "eccentricity is 1.5"),
        ({"INCLINATION": "-5"}, "inclination_deg is -5.0"),
        ({"RA_OF_ASC_NODE": "361"}, "RA_OF_ASC_NODE is 361.0"),
        ({"NORAD_CAT_ID": "1000000000"}, "NORAD_CAT_ID"),
        ({"NORAD_CAT_ID": "-1"}, "NORAD_CAT_ID"),
        ({"NORAD_CAT_ID": "A0001"}, "NORAD_CAT_ID"),
        ({"EPHEMERIS_TYPE": "4"}, "not made for SGP4"),
    ],
)
def test_bad_records_are_refused_with_their_place(form: str, changes: dict[str, Any], match: str) -> None:
    text = FORMS[form](RECORD, _with(**changes), _with(NORAD_CAT_ID=7))
    with pytest.raises(ElementsRefused, match=match) as raised:
        read_elements(text)
    assert {"record", "line"} & set(raised.value.details)
    assert raised.value.message.startswith("omm-")
    assert raised.value.hint
    refused: list[ElementsRefused] = []
    assert [one.norad_id for one in read_elements(text, refused=refused)] == [25544, 7]
    assert len(refused) == 1


@pytest.mark.parametrize("form", ["text-json", "kvn", "xml"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("CENTER_NAME", "MARS"), ("REF_FRAME", "GCRF"), ("TIME_SYSTEM", "TAI"), ("MEAN_ELEMENT_THEORY", "DSST"),
        ("MEAN_ELEMENT_THEORY", "SGP4-XP"),
    ],
)  # fmt: skip
def test_what_changes_the_meaning_is_refused(form: str, field: str, value: str) -> None:
    with pytest.raises(ElementsRefused, match=field):
        read_elements(FORMS[form](_with(**{field: value})))


def test_other_ways_to_say_the_same() -> None:
    record = _with(
        REF_FRAME="TEME of Date", MEAN_ELEMENT_THEORY="SGP/SGP4", CENTER_NAME="Earth", OBJECT_ID=None
    )
    record |= {
        "RA_OF_ASC_NODE": -229.4529,
        "MEAN_ANOMALY": 360,
        "BSTAR": "2.0331D-05",
        "ELEMENT_SET_NO": 999.0,
    }
    (one,) = read_elements(as_json(record))
    assert one.raan_deg == pytest.approx(130.5471, abs=1e-12)
    assert one.mean_anomaly_deg == 360.0
    assert one.bstar_per_er == 2.0331e-05
    assert (one.object_id, one.element_set) == ("", 999)


@pytest.mark.parametrize("blank", [" ", "\t", "\x1e", "\x85", "\u2003"])
def test_numbers_may_have_any_blanks_around_them(blank: str) -> None:
    numbers = {k: f"{blank}{v}{blank}" for k, v in RECORD.items() if isinstance(v, int | float)}
    assert read_elements(as_json({**RECORD, **numbers})) == read_elements(as_json(RECORD))


def test_a_semi_major_axis_is_no_mean_motion() -> None:
    record = {k: v for k, v in RECORD.items() if k != "MEAN_MOTION"} | {"SEMI_MAJOR_AXIS": 6793.0}
    with pytest.raises(ElementsRefused, match="SEMI_MAJOR_AXIS in place of MEAN_MOTION"):
        read_elements(as_json(record))


@pytest.mark.parametrize("name", list(lines))
@pytest.mark.parametrize("form", list(FORMS))
def test_what_we_write_is_read_back(form: str, name: str) -> None:
    one = elements(name)
    (back,) = read_elements(FORMS[form](omm_fields(one)), source=one.source)
    assert back == one


def test_a_set_without_number_is_written_without() -> None:
    one = msgspec.structs.replace(elements("iss"), norad_id=None)
    assert "NORAD_CAT_ID" not in omm_fields(one)
    assert from_fields(omm_fields(one), source="tle") == one


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "not JSON"), ("[1, 2]", "record 1: an object is expected, not int"), ("[[]]", "not list"),
        ('{"error": "no"}', "EPOCH is missing"), ("[]", "no element set"), ('["x"]', "not str"),
        ("[" * 100_000, "not JSON"), ('[{"EPOCH": 5}]', "EPOCH is 5, it must be text"),
        ('[{"EPOCH": "2020-12-24T00:00:00", "MEAN_MOTION": true}]', "MEAN_MOTION is True"),
        ('[{"EPOCH": "2020-12-24T00:00:00", "MEAN_MOTION": [1]}]', "MEAN_MOTION"),
    ],
)  # fmt: skip
def test_json_that_is_refused(text: str, match: str) -> None:
    with pytest.raises(ElementsRefused, match=match):
        read_elements(text)


def test_json_at_top_level_may_be_one_object_but_no_number() -> None:
    assert len(read_elements(json.dumps(RECORD))) == 1
    with pytest.raises(ElementsRefused, match="a list of objects is expected, not int"):
        read_elements("5", form="omm-json")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("EPOCH,MEAN_MOTION\n", "no element set"),
        ("OBJECT_NAME,MEAN_MOTION\nISS,15\n", "no EPOCH"),
        ("EPOCH,EPOCH\n1,2\n", "column 'EPOCH' is there twice"),
        ("EPOCH,MEAN_MOTION\n2020-12-24T00:00:00\n", "line 2: fewer values"),
        ("EPOCH,MEAN_MOTION\n2020-12-24T00:00:00,1,2\n", "line 2: more values"),
        ('EPOCH,MEAN_MOTION\n"2020,1\n', "unexpected end of data"),
        ('EPOCH,MEAN_MOTION\n"a"b,1\n', "expected after"),
        ('"EPOCH,MEAN_MOTION\n', "unexpected end"),
        ("EPOCH,X\n" + "a" * 200_000 + ",1\n", "field larger"),
    ],
)
def test_csv_that_is_refused(text: str, match: str) -> None:
    with pytest.raises(ElementsRefused, match=match):
        read_elements(text, form="omm-csv")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (("[deg]", "[rad]"), r"line \d+: INCLINATION is 'rad', the unit must be deg"),
        (("[rev/day]", "[rad/s]"), "unit must be rev/day"),
        (("OMM_VERS = 2.0", "OMM_VERS = 9.0"), "versions 1 to 3 are known"),
        (("ORIGINATOR = TEST", "ORIGINATOR"), "is not KEYWORD = value"),
        (("ORIGINATOR = TEST", "EPOCH = 2020-12-24T00:00:00"), "EPOCH is there twice"),
    ],
)
def test_kvn_that_is_refused(change: tuple[str, str], match: str) -> None:
    with pytest.raises(ElementsRefused, match=match):
        read_elements(as_kvn(RECORD).replace(*change))


def test_kvn_without_headers_is_cut_at_names() -> None:
    body = "\n".join(f"{k} = {v}" for k, v in RECORD.items())
    found = read_elements(body + "\n" + body.replace("25544", "7"))
    assert [one.norad_id for one in found] == [25544, 7]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("<ndm></ndm>", "no segment"),
        ("<ndm>", "not well-formed"),
        ("<a/><b/>", "not well-formed"),
        ("<omm><segment><segment/></segment></omm>", "a segment inside a segment"),
        ("<a>" * 40, "nested deeper"),
        (as_xml(RECORD).replace("UTF-8", "EBCDIC-XYZ"), "omm-xml"),
        (as_xml(RECORD).replace('units="deg"', 'units="rad"'), "unit must be deg"),
        (as_xml(RECORD).replace("<OBJECT_ID>", "<OBJECT_ID>" + "x" * 5000), "a value is too long"),
        (
            as_xml(RECORD).replace("<tleParameters>", "<tleParameters><BSTAR>1</BSTAR>"),
            "BSTAR is there twice",
        ),
    ],
)
def test_xml_that_is_refused(text: str, match: str) -> None:
    with pytest.raises(ElementsRefused, match=match):
        read_elements(text.encode())


BOMB = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "ha"}">' for n in range(10))


@pytest.mark.parametrize(
    "doctype",
    [
        f"<!DOCTYPE ndm [{BOMB}]>",
        '<!DOCTYPE ndm [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE ndm SYSTEM "http://127.0.0.1:1/x.dtd">',
        "<!DOCTYPE ndm>",
    ],
)
def test_a_doctype_is_refused_before_anything_else(doctype: str) -> None:
    text = as_xml(RECORD).replace("<ndm", doctype + "<ndm", 1).replace("ISS (ZARYA)", "&e9;&x;")
    with pytest.raises(ElementsRefused, match="document type declaration"):
        read_elements(text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1", "us-ascii"])
def test_xml_in_other_encodings(encoding: str) -> None:
    (one,) = read_elements(as_xml(RECORD).replace("UTF-8", encoding.upper()).encode(encoding))
    assert one.name == "ISS (ZARYA)"


def test_xml_as_text_whatever_it_declares() -> None:
    assert len(read_elements("\ufeff \n" + as_xml(RECORD).replace("UTF-8", "UTF-16"))) == 1


def test_an_encoding_that_python_cannot_give_to_expat() -> None:
    with pytest.raises(ElementsRefused, match="encoding"):
        read_elements(as_xml(RECORD).replace("UTF-8", "shift_jis").encode("shift_jis"))


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf", b"\n \n"])
@pytest.mark.parametrize("form", list(FORMS))
def test_the_form_is_told_by_the_first_characters(form: str, prefix: bytes) -> None:
    data = prefix + FORMS[form](RECORD).encode()
    assert form_of(data) == f"omm-{form.removeprefix('text-')}"
    assert len(read_elements(data)) == 1


@pytest.mark.parametrize(
    "data", [b"", b"  \n", "", b"\xff\xfe\xfd", b"ISS\n\x80", "\ud800", "<html>busy</html>"]
)
def test_content_that_is_none_of_them(data: bytes | str) -> None:
    with pytest.raises(ElementsRefused) as raised:
        read_elements(data)
    assert raised.value.hint


def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeagent.orbit.importer.INPUT_BYTES_MAX", 100)
    with pytest.raises(ElementsRefused, match="over the limit of 100"):
        read_elements("x" * 101)
    monkeypatch.setattr("edgeagent.orbit.omm.RECORDS_MAX", 2)
    found = Collector("tle", [])
    found.add("1", lambda: elements("iss"))
    found.add("2", lambda: elements("iss"))
    with pytest.raises(ElementsRefused, match="more than 2 records"):
        found.add("3", lambda: elements("iss"))
    assert RECORDS_MAX == 500_000
