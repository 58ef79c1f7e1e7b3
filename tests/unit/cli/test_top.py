"""What ``edgeagent top`` makes of ``/v1/accel``."""

from __future__ import annotations

import os
from typing import Any

import pytest

from edgeagent.cli import top
from edgeagent.cli.client import Reply
from edgeagent.cli.main import main
from edgeagent.model.errors import PeerFailed

FUNCTION = {
    "name": "detect",
    "calls": 12,
    "p50_ms": 3.25,
    "mode": "cpu_preferred",
    "backend": "gpu",
    "gpu_seconds": 1.5,
    "energy_j": 120.0,
    "cost_usd": 0.0000125,
    "why": "to the GPU: faster",
    "changed_at": "2026-11-29T12:00:00Z",
}
GPU = {
    "index": 0,
    "device": "H200",
    "state": "ready",
    "why": "",
    "load": 2,
    "falls": 1,
    "temperature_c": 61.4,
}
ENERGY = {"core_w": 2.5, "gpu_w": 302.4, "usd_per_kwh": 31.862, "usd_per_kwh_why": "in an eclipse"}
VIEW: dict[str, Any] = {
    "node": "0123456789abcdef",
    "load": {"cpu": 0.5, "active": 3, "waiting": 1},
    "gpus": [GPU],
    "why_no_gpu": "",
    "functions": [FUNCTION],
}


def test_a_screen() -> None:
    idle = {
        **FUNCTION,
        "name": "idle",
        "calls": 0,
        "p50_ms": None,
        "changed_at": "",
        "why": "no kernel was called",
    }
    lines = top.shown({**VIEW, "functions": [idle, FUNCTION]}).splitlines()
    assert lines[0] == "0123456789ab: cpu 50%, 3 calls, 1 wait"
    assert lines[1] == "GPU 0 H200, ready, 61 C, 2 calls, lost 1 times"
    assert lines[3].split() == [
        "function",
        "calls",
        "p50",
        "ms",
        "mode",
        "backend",
        "gpu",
        "s",
        "joules",
        "usd",
        "why",
    ]
    assert lines[4].split(maxsplit=8) == [
        "detect",
        "12",
        "3.2",
        "cpu_preferred",
        "gpu",
        "1.5",
        "120",
        "1.25e-05",
        "to the GPU: faster (2026-11-29T12:00:00Z)",
    ]
    assert lines[5].split()[:3] == ["idle", "0", "-"]


def test_what_energy_costs_is_on_the_first_line_and_what_a_node_does_not_say_is_left_out() -> None:
    first = top.shown({**VIEW, "energy": ENERGY}).splitlines()[0]
    draws = "a core 2.5 W, a GPU 302 W, 31.9 USD/kWh (in an eclipse)"
    assert first == f"0123456789ab: cpu 50%, 3 calls, 1 wait; {draws}"
    assert "GPU 302" not in top.shown({**VIEW, "energy": ENERGY, "gpus": []}).splitlines()[0]
    earlier = {key: value for key, value in FUNCTION.items() if not key.endswith(("_seconds", "_j", "_usd"))}
    assert top.shown({**VIEW, "functions": [earlier]}).splitlines()[4].split()[5:8] == ["-", "-", "-"]


def test_nothing_to_show() -> None:
    view = {**VIEW, "gpus": [], "why_no_gpu": "none here", "functions": []}
    view["load"] = {"cpu": None, "active": 0, "waiting": 0}
    assert top.shown(view).splitlines() == [
        "0123456789ab: cpu -, 0 calls, 0 wait",
        "no GPU: none here",
        "no functions: edgeagent deploy brings some",
    ]


def test_a_gpu_that_is_not_ready_says_why() -> None:
    gpu = {**GPU, "device": "", "state": "broken", "why": "it died", "falls": 0, "temperature_c": None}
    assert "GPU 0, broken, it died\n" in top.shown({**VIEW, "gpus": [gpu]})


def test_what_sensors_say_of_a_gpu_is_shown() -> None:
    gpu = {**GPU, "power_w": 301.6, "utilisation": 0.875}
    assert (
        top.shown({**VIEW, "gpus": [gpu]})
        .splitlines()[1]
        .startswith("GPU 0 H200, ready, 61 C, 302 W, 88% busy, ")
    )
    silent = {**GPU, "power_w": None, "utilisation": None}
    assert top.shown({**VIEW, "gpus": [silent]}) == top.shown(VIEW)


def test_many_functions_are_cut() -> None:
    many = [{**FUNCTION, "name": f"f{number}"} for number in range(50)]
    assert top.shown({**VIEW, "functions": many}).endswith("\nand 10 more")


def test_on_a_terminal_it_goes_on_until_it_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import msgspec

    naps = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(top, "call", lambda *_: Reply(200, {}, msgspec.json.encode(VIEW)))
    monkeypatch.setattr("time.sleep", nap)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["top"]) == 130
    assert naps == [1.0] * 3
    assert capsys.readouterr().out.count("\x1b[H\x1b[J0123456789ab") == 3


def test_a_daemon_that_is_away_for_a_while_and_a_small_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import msgspec

    many = [{**FUNCTION, "name": f"f{number}"} for number in range(9)]
    answers: list[Reply | PeerFailed] = [
        Reply(200, {}, msgspec.json.encode({**VIEW, "functions": many})),
        PeerFailed("no daemon at that place"),
        Reply(200, {}, msgspec.json.encode(VIEW)),
    ]

    def answer(*_: object) -> Reply:
        if not answers:
            raise KeyboardInterrupt
        one = answers.pop(0)
        if isinstance(one, PeerFailed):
            raise one
        return one

    monkeypatch.setattr(top, "call", answer)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((20, 7)))
    assert main(["top"]) == 130
    _, first, second, third = capsys.readouterr().out.split("\x1b[H\x1b[J")
    assert first.splitlines() == [
        "0123456789ab: cpu 50",
        "GPU 0 H200, ready, 6",
        "",
        "function  calls  p50",
        "f0           12  3.2",
        "f1           12  3.2",
        "...",
    ]
    assert second == "no daemon at that pl"
    assert third.startswith("0123456789ab")
