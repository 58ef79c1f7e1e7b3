"""Which run a call belongs to, as headers say it."""

from __future__ import annotations

import pytest

from edgeagent.http.headers import read_invoke_headers
from edgeagent.model.errors import BadRequest
from edgeagent.model.run_tag import RunTag, read_run_tag
from edgeagent.state.hlc import Version
from edgeagent.state.session import Session


@pytest.mark.parametrize(
    "tag",
    [
        RunTag("0f-a_9", 3),
        RunTag("r", 0, "c2Vzc2lvbg"),
        RunTag(session="abc"),
        RunTag("r", 1, "", ("n1", "n-2")),
    ],
)
def test_it_is_read_as_it_was_written(tag: RunTag) -> None:
    assert read_run_tag(tag.headers()) == tag


def test_nothing_is_no_tag() -> None:
    assert read_run_tag({}) is None
    assert RunTag().headers() == {}


@pytest.mark.parametrize(
    "headers",
    [
        {"Edgeagent-Run": ""},
        {"Edgeagent-Run": "r"},
        {"Edgeagent-Run": "r;epoch=-1"},
        {"Edgeagent-Run": "r;epoch=1 "},
        {"Edgeagent-Run": "a/b;epoch=1"},
        {"Edgeagent-Run": "..;epoch=1"},
        {"Edgeagent-Run": "x" * 65 + ";epoch=1"},
        {"Edgeagent-Run": "r;epoch=" + "9" * 16},
        {"Edgeagent-Run": "r;epoch=1", "Edgeagent-Run-Next": "a,,b"},
        {"Edgeagent-Run": "r;epoch=1", "Edgeagent-Run-Next": "a b"},
        {"Edgeagent-Run": "r;epoch=1", "Edgeagent-Run-Next": ",".join("abcdefghi")},
        {"Edgeagent-Session": "a b"},
        {"Edgeagent-Session": "a" * 7169},
    ],
)
def test_anything_else_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(BadRequest, match="Edgeagent-"):
        read_run_tag(headers)


def test_as_many_nodes_are_told_as_are_read() -> None:
    many = RunTag("r", 1, following=tuple(f"n{at}" for at in range(20)))
    told = read_run_tag(many.headers())
    assert told is not None
    assert told.following == many.following[:8]


def test_a_run_comes_with_a_reservation_only() -> None:
    seen = Session()
    seen.saw("a", Version(5, 0, "n"))
    token = seen.text()
    headers = RunTag("r", 1, token).headers()
    with pytest.raises(BadRequest, match="reservation"):
        read_invoke_headers(headers)
    wanted = read_invoke_headers({**headers, "Edgeagent-Reservation": "x", "Edgeagent-Peer": "n"})
    assert wanted.tag == RunTag("r", 1, token)
    client = read_invoke_headers({"Edgeagent-Session": token})
    assert client.tag == RunTag(session=token)
    assert client.is_chain
    assert not read_invoke_headers({}).is_chain
    with pytest.raises(BadRequest, match="token"):
        read_invoke_headers({"Edgeagent-Session": "abc"})
