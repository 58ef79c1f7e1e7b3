"""A command that says where the node is: what it may say, and how it may fail."""

from __future__ import annotations

import asyncio
import sys

import pytest

from edgeagent.mesh import orbit_command
from edgeagent.mesh.orbit_command import (
    OUTPUT_BYTES_MAX,
    Place,
    follow_command,
    read_place,
    run_command,
    words_of,
)
from edgeagent.model.errors import BadConfig
from edgeagent.orbit.elements import Elements

TLE = b"""ISS (ZARYA)
1 25544U 98067A   20045.18587073  .00000950  00000-0  25302-4 0  9990
2 25544  51.6443 242.0161 0004885 264.6060 207.3845 15.49165514212791
"""


def test_what_it_may_say() -> None:
    assert read_place(b"48.2, 16.4, 171\n", "", 0.0) == (48.2, 16.4, 171.0)
    assert read_place(b"-48.2 +16.4", "", 0.0) == (-48.2, 16.4, 0.0)
    elements = read_place(TLE, "", 0.0)
    assert isinstance(elements, Elements)
    assert elements.norad_id == 25544


@pytest.mark.parametrize("output", [b"", b"\n", b"1", b"91, 0, 0", b"north", b"\xff", b"1, 2, 3, 4"])
def test_what_it_may_not_say(output: bytes) -> None:
    with pytest.raises(BadConfig):
        read_place(output, "", 0.0)


@pytest.mark.parametrize(("command", "says"), [("'", "No closing quotation"), ("  ", "blank")])
def test_commands_that_are_none(command: str, says: str) -> None:
    with pytest.raises(BadConfig, match=says):
        words_of(command)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["/nowhere/at/all"], "No such file"),
        ([sys.executable, "-c", "raise SystemExit(3)"], "ended with 3"),
        ([sys.executable, "-c", f"print('x' * {OUTPUT_BYTES_MAX + 1})"], "says more than"),
    ],
)
def test_how_it_may_fail(words: list[str], says: str) -> None:
    with pytest.raises(BadConfig, match=says):
        asyncio.run(run_command(words))


def test_one_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orbit_command, "RUN_S_MAX", 0.05)
    with pytest.raises(BadConfig, match="did not end"):
        asyncio.run(run_command([sys.executable, "-c", "input() if False else __import__('time').sleep(60)"]))


def test_it_is_asked_again_and_failures_change_nothing(tmp_path: object) -> None:
    path = f"{tmp_path}/place"
    took: list[Place] = []

    async def main() -> None:
        enough = asyncio.Event()

        def taken(place: Place) -> None:
            took.append(place)
            with open(path, "w", encoding="ascii") as file:  # noqa: PTH123
                file.write(f"{len(took)}, 2, 3" if len(took) != 2 else "nonsense")
            if len(took) == 2:
                asyncio.get_running_loop().call_later(0.2, recover)

        def recover() -> None:
            with open(path, "w", encoding="ascii") as file:  # noqa: PTH123
                file.write("9, 9, 9")
            enough.set()

        with open(path, "w", encoding="ascii") as file:  # noqa: PTH123, ASYNC230
            file.write("0, 2, 3")
        task = asyncio.ensure_future(follow_command(f"cat {path}", "", 0.0, 0.001, taken))
        await enough.wait()
        while took[-1] != (9.0, 9.0, 9.0):  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert took[:2] == [(0.0, 2.0, 3.0), (1.0, 2.0, 3.0)]
