"""What commands print."""

from __future__ import annotations

import json
import sys

import pytest

from edgeagent import native
from edgeagent.__main__ import main as command
from edgeagent.cli import checks
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


def test_ctrl_c_before_anything_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            if name == "edgeagent.cli.main":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "edgeagent.cli.main")
    monkeypatch.setattr(sys, "meta_path", [Interrupted, *sys.meta_path])
    assert command() == 130


def test_doctor_does_not_build_what_was_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEAGENT_NATIVE", "maybe")
    assert "neither auto nor never" in checks.extension().detail
    monkeypatch.setenv("EDGEAGENT_NATIVE", "never")
    monkeypatch.setattr(native, "accelerated", False)
    monkeypatch.setattr(native, "why_not", "EDGEAGENT_NATIVE=never")
    assert checks.extension().fix == "unset EDGEAGENT_NATIVE"
    monkeypatch.setattr(native, "why_not", "extension not built or not loadable (no)")
    assert "make native" in checks.extension().fix
