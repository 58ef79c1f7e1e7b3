"""The engine port, ``command`` guests: WASI preview 1 by our own host functions, the same from every engine."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path
from typing import Any

import pytest

from edgeagent.hose.settings import TIERS
from edgeagent.model import errors
from edgeagent.runtime.port import Engine
from tests.contract.calls import load, start

BADF, FAULT, INVAL, NOSPC, NOTSUP, SPIPE, NOTCAPABLE = 8, 21, 28, 51, 58, 70, 76


@pytest.mark.parametrize("size", [0, 5, 1024, 65536, 200_001])
def test_standard_input_comes_out_again(engine: Engine, compiled: Any, size: int) -> None:
    body = bytes(i & 0xFF for i in range(size))
    outcome = load(engine, compiled, "cmd_echo").call(body)
    assert outcome.error is None
    assert bytes(outcome.output) == body


def test_what_was_read_was_copied(engine: Engine, compiled: Any) -> None:
    """Wherever it runs: on the caller's thread, on a worker, on the loop's thread once it is known to be short."""
    echo, deaf = (load(engine, compiled, guest) for guest in ("cmd_echo", "cmd_args"))

    async def main() -> None:
        engine.attach(asyncio.get_running_loop())
        for _ in range(64):
            assert (await start(echo, b"hello")).hose[:3] == (TIERS.index("copy"), 5, 0)
            assert (await start(deaf, b"hello")).hose[:3] == (TIERS.index("none"), 0, 0)

    assert echo.call(b"hello").hose[:3] == (TIERS.index("copy"), 5, 0)
    asyncio.run(main())


@pytest.mark.parametrize("code", [1, 2, 125, 126, 127, 128, 255, 256, 70_000, 2**32 - 1])
def test_every_exit_code_arrives_whole(engine: Engine, compiled: Any, code: int) -> None:
    outcome = load(engine, compiled, "cmd_exit").call(code.to_bytes(4, "little"))
    assert outcome.exit_code == code
    assert isinstance(outcome.error, errors.GuestExit)
    assert outcome.error.details["exit_code"] == code
    assert outcome.stderr == b"bye\x1b[31m"
    assert outcome.error.details["stderr"] == "bye\ufffd[31m"


def test_exit_zero_is_success(engine: Engine, compiled: Any) -> None:
    outcome = load(engine, compiled, "cmd_exit").call(bytes(4))
    assert outcome.error is None
    assert outcome.exit_code == 0
    assert outcome.stderr.startswith(b"bye")


def test_arguments_and_environment(engine: Engine, compiled: Any) -> None:
    function = load(engine, compiled, "cmd_args", args=("one", "zwei ü"))
    assert function.call(b"").output == "cmd-args\0one\0zwei ü\0".encode()
    assert function.call(b"", ["other"]).output == b"cmd-args\0other\0"
    assert function.call(b"", []).output == b"cmd-args\0"
    environ = load(engine, compiled, "cmd_environ", env={"A": "1", "B": "two words"})
    assert environ.call(b"").output == b"A=1\0B=two words\0"
    assert load(engine, compiled, "cmd_environ").call(b"").output == b""


def test_a_sleeper_wakes(engine: Engine, compiled: Any) -> None:
    outcome = load(engine, compiled, "cmd_sleep").call((5_000_000).to_bytes(8, "little"))
    assert outcome.output == b"up"
    assert outcome.duration_us >= 5000


def test_the_deadline_also_ends_a_sleep(engine: Engine, compiled: Any) -> None:
    outcome = load(engine, compiled, "cmd_sleep", wall_ms=20).call((10**12).to_bytes(8, "little"))
    assert isinstance(outcome.error, errors.DeadlineExceeded)
    assert outcome.duration_us < 5_000_000


def test_output_over_the_limit_ends_the_guest(engine: Engine, compiled: Any) -> None:
    outcome = load(engine, compiled, "cmd_flood", output_bytes=1 << 20).call(b"")
    assert isinstance(outcome.error, errors.OutputTooLarge)
    assert outcome.output == b""


def _probe(engine: Engine, compiled: Any, which: int, *args: int) -> tuple[int, bytes]:
    """Error number and the first 64 bytes of memory after one WASI call with these arguments."""
    body = struct.pack(f"<I{len(args)}I", which, *args)
    outcome = load(engine, compiled, "cmd_wasi").call(body)
    assert outcome.error is None
    output = bytes(outcome.output)
    return int.from_bytes(output[:4], "little"), output[4:]


def test_single_functions(engine: Engine, compiled: Any) -> None:
    random = _probe(engine, compiled, 0, 0, 32)
    assert random[0] == 0
    assert random[1][:32] != bytes(32)
    errno, memory = _probe(engine, compiled, 1, 0, 0)
    assert errno == 0
    now_ns = int.from_bytes(memory[:8], "little")
    assert now_ns > 1_700_000_000 * 10**9
    assert now_ns % 1_000_000 == 0, "no clock finer than a millisecond"
    errno, memory = _probe(engine, compiled, 2, 1, 0)
    assert (errno, memory[0]) == (0, 0), "standard output is of unknown type: not a terminal"


@pytest.mark.parametrize(
    ("which", "args", "errno"),
    [
        (0, (65536, 1), FAULT),
        (0, (0xFFFFFFFF, 0xFFFFFFFF), FAULT),
        (1, (9, 0), INVAL),
        (1, (0, 65530), FAULT),
        (2, (77, 0), BADF),
        (3, (3, 0), BADF),
        (5, (3, 0), NOTSUP),
        (6, (0, 0), SPIPE),
        (7, (0, 0xFFFFFFF0, 4, 8), FAULT),
        (7, (1, 0, 0, 8), BADF),
    ],
)
def test_refusals(engine: Engine, compiled: Any, which: int, args: tuple[int, ...], errno: int) -> None:
    assert _probe(engine, compiled, which, *args)[0] == errno


def test_no_scratch_no_files(engine: Engine, compiled: Any) -> None:
    assert load(engine, compiled, "cmd_scratch").call(b"x").exit_code in (BADF, NOTCAPABLE)


def test_scratch_is_private_and_wiped(engine: Engine, compiled: Any, tmp_path: Path) -> None:
    function = load(engine, compiled, "cmd_scratch", scratch_dir=str(tmp_path), scratch_bytes_max=1 << 20)
    for text in (b"first", b"second" * 1000):  # O_EXCL: a note that stayed would fail the second call
        outcome = function.call(text)
        assert outcome.error is None
        assert bytes(outcome.output) == text
    assert list(tmp_path.iterdir()) == []


def test_scratch_has_a_quota(engine: Engine, compiled: Any, tmp_path: Path) -> None:
    function = load(engine, compiled, "cmd_scratch", scratch_dir=str(tmp_path), scratch_bytes_max=100_000)
    assert function.call(bytes(90_000)).error is None
    outcome = function.call(bytes(120_000))
    assert outcome.exit_code == NOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_missing_scratch_parent_is_a_typed_error(engine: Engine, compiled: Any, tmp_path: Path) -> None:
    function = load(
        engine, compiled, "cmd_scratch", scratch_dir=str(tmp_path / "gone"), scratch_bytes_max=1000
    )
    assert isinstance(function.call(b"x").error, errors.StorageFull)
