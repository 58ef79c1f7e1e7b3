"""The official SGP4 verification vectors (AIAA 2006-6753), all of them, through our own reader and records."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
from sgp4.api import Satrec

from edgeagent.orbit.elements import Elements
from edgeagent.orbit.errors import ElementsRefused, PropagationFailed
from edgeagent.orbit.propagation import Ensemble, propagate_one, satrec_of
from edgeagent.orbit.tle import elements_of_lines
from tests.unit.orbit.samples import verification_sets

WRONG_CHECKSUM = {33333, 33334, 33335}  # made up to bring out error codes
ERROR_CODES = [1, 1, 6, 6, 4, 3, 6]


def _all() -> list[tuple[Elements, str]]:
    return [(elements_of_lines(a, b, checksums=False), rest) for a, b, rest in verification_sets()]


def _expected() -> list[list[list[float]]]:
    """For each set of the file its lines: minutes, position, velocity."""
    blocks: list[list[list[float]]] = []
    text = (files("sgp4") / "tcppver.out").read_text(encoding="ascii")
    for line in text.splitlines():
        if "xx" in line:
            blocks.append([])
        else:
            blocks[-1].append([float(field) for field in line.split()[:7]])
    return blocks


def test_there_are_33_sets_and_three_have_wrong_checksums() -> None:
    assert len(_all()) == 33
    for one, two, _ in verification_sets():
        if int(one[2:7]) in WRONG_CHECKSUM:
            with pytest.raises(ElementsRefused, match="checksum"):
                elements_of_lines(one, two)
        else:
            elements_of_lines(one, two)


def test_records_are_those_that_the_package_makes_of_the_lines() -> None:
    for one, two, _ in verification_sets():
        theirs = Satrec.twoline2rv(one, two)
        ours = satrec_of(elements_of_lines(one, two, checksums=False))
        for name in ("bstar", "ndot", "nddot", "ecco", "argpo", "inclo", "mo", "no_kozai", "nodeo"):
            assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-15, abs=1e-300), name
        assert ours.jdsatepoch == theirs.jdsatepoch
        assert ours.jdsatepochF == pytest.approx(theirs.jdsatepochF, abs=1e-15)


def test_every_position_and_velocity_of_the_vectors() -> None:
    compared = 0
    for (elements, _), block in zip(_all(), _expected(), strict=True):
        if elements.norad_id == 33334:
            continue  # has an error at its epoch; the file repeats the line of the satellite before
        ensemble, record, rows = Ensemble([elements], policy=None), satrec_of(elements), np.array(block)
        for row in rows:
            error, position, velocity = record.sgp4_tsince(row[0])
            assert error == 0
            # Within 1e-6 km: the digits of the file, and the last bits of other compilers.
            assert np.abs(np.array(position) - row[1:4]).max() < 1e-6, (elements.norad_id, row[0])
            assert np.abs(np.array(velocity) - row[4:7]).max() < 1e-8
            compared += 1
        states = ensemble.propagate(elements.epoch_s + rows[:, 0] * 60)
        # By absolute time a double of UTC seconds adds 0.24 us of way; what the guard takes out is NaN.
        low = np.linalg.norm(rows[:, 1:4], axis=1) < 6478
        assert (states.error[0] == np.where(low, 7, 0)).all(), elements.norad_id
        near = np.abs(states.position_km[0] - rows[:, 1:4])[~low]
        bound = (
            1e-4 if elements.norad_id in WRONG_CHECKSUM else 1e-5
        )  # made-up orbits move at impossible speeds
        assert near.max(initial=0.0) < bound, elements.norad_id
    assert compared == 700 - 33 - 1


def test_the_error_codes_of_the_vectors() -> None:
    found = []
    for elements, rest in _all():
        record = satrec_of(elements)
        start, stop, step = (float(field) for field in rest.split())
        for minutes in [0.0, *np.arange(start, stop + step / 2, step)]:
            code = record.sgp4_tsince(min(float(minutes), stop))[0]
            if code:
                found.append(code)
                with pytest.raises(PropagationFailed) as raised:
                    propagate_one(elements, elements.epoch_s + minutes * 60, policy=None)
                assert raised.value.details["code"] == code
                break
    assert found == ERROR_CODES
