"""What commands print."""

from __future__ import annotations

import json

import pytest

from edgeagent.cli.main import VERBS, build_parser, main
from edgeagent.cli.output import fail, table
from edgeagent.model.errors import GuestExit, UnknownImports


def test_numbers_stand_right_and_words_left() -> None:
    assert table(("name", "bytes"), [("a", 5), ("long", 12345)]) == "name  bytes\na         5\nlong  12345"
    assert table(("name",), []) == "name"


def test_errors_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    error = GuestExit("exit code 3", exit_code=3, stderr="no input", hint="give it some")
    assert fail(error, as_json=False, code=1) == 1
    said = capsys.readouterr().err
    assert "exit code 3" in said
    assert "stderr: no input" in said
    assert "give it some" in said
    fail(UnknownImports("x", unknown_imports=[{"module": "env", "name": "f"}]), as_json=False, code=1)
    assert "not offered: env.f" in capsys.readouterr().err


def test_errors_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(GuestExit("exit code 3", exit_code=3), as_json=True, code=1) == 1
    problem = json.loads(capsys.readouterr().out)["problem"]
    assert problem["type"] == "urn:edgeagent:problem:guest-exit"
    assert problem["exit_code"] == 3


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_only_the_chosen_verb_is_loaded() -> None:
    assert build_parser(None).prog == "edgeagent"
