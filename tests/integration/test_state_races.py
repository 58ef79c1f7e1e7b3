"""Writers of one key at many daemons at once: exactly one is told that it was first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.continuum_rig import Continuum
from tests.integration.test_state import get, put

ROUNDS, WRITERS = 6, 9


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Continuum]:
    made = Continuum(
        tmp_path_factory.mktemp("three"),
        ("edge", "satellite", "satellite"),
        "state.owner_prefixes=owned/",
        "state.once_prefixes=once/",
    )
    yield made
    made.stop()


def race(three: Continuum, key: str, refused: int, **headers: str) -> None:
    def one(number: int) -> int:
        return put(three.nodes[number % 3], key, b"%d" % number, **headers).status

    with ThreadPoolExecutor(WRITERS) as pool:
        assert Counter(pool.map(one, range(WRITERS))) == {200: 1, refused: WRITERS - 1}
    assert len({get(node, key).body for node in three.nodes}) == 1


@pytest.mark.parametrize("prefix", ["once", "runs/r"])
def test_one_writes_a_once_key(three: Continuum, prefix: str) -> None:
    for turn in range(ROUNDS):
        race(three, f"{prefix}/{turn}/x", 409)


@pytest.mark.parametrize("prefix", ["free", "owned"])
def test_one_creates_a_key_and_one_writes_over_a_version(three: Continuum, prefix: str) -> None:
    for turn in range(ROUNDS):
        key = f"{prefix}/{turn}"
        race(three, key, 412, If_None_Match="*")
        version = get(three.nodes[turn % 3], key).headers["edgeagent-version"]
        race(three, key, 412, If_Match=version)


def test_conditions_that_cannot_be_kept_are_refused(three: Continuum) -> None:
    assert put(three.origin, "odd/x", b"1", If_Match="*").status == 400
    assert put(three.origin, "odd/x", b"1", If_None_Match='"1.0.n"').status == 400
    assert get(three.origin, "odd/x").status == 404
