"""The engine port, ``bytes`` guests: the same results and the same typed errors from every engine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeagent.model import errors
from edgeagent.runtime.port import Engine
from tests.contract.calls import load


def test_output_is_what_the_guest_made(engine: Engine, compiled: Any) -> None:
    outcome = load(engine, compiled, "add1").call(b"abc\xff")
    assert outcome.error is None
    assert outcome.output == b"bcd\x00"
    assert outcome.exit_code == 0
    assert not outcome.inline


@pytest.mark.parametrize("size", [0, 1, 1024, 65535, 65536, 65537, 3_000_000])
def test_any_size_goes_in_and_out(engine: Engine, compiled: Any, size: int) -> None:
    body = bytes(i * 7 & 0xFF for i in range(size % 1000)) + bytes(size - size % 1000)
    output = load(engine, compiled, "echo").call(body).output
    assert bytes(output) == body
    assert isinstance(output, bytes if size <= 65536 else memoryview)


def test_bodies_may_be_any_buffer(engine: Engine, compiled: Any) -> None:
    function = load(engine, compiled, "add1")
    assert function.call(memoryview(b"abc")).output == b"bcd"


def test_nothing_is_left_for_the_next_invocation(engine: Engine, compiled: Any) -> None:
    function = load(engine, compiled, "residue")
    assert [function.call(b"").output for _ in range(50)] == [b"\0\0"] * 50


@pytest.mark.parametrize(
    ("guest", "kind", "code", "text"),
    [
        ("trap", errors.GuestTrap, 9, "unreachable"),
        ("div0", errors.GuestTrap, 7, "divide by zero"),
        ("recurse", errors.StackOverflow, 0, "stack overflow"),
    ],
)
def test_traps_are_typed_and_carry_a_backtrace(
    engine: Engine, compiled: Any, guest: str, kind: type[errors.GuestTrap], code: int, text: str
) -> None:
    outcome = load(engine, compiled, guest).call(b"12345678")
    assert type(outcome.error) is kind
    assert text in outcome.error.message
    assert outcome.error.details["code"] == code
    assert "handle" in outcome.error.details["backtrace"][0]
    assert len(outcome.error.details["backtrace"]) <= 20
    assert outcome.output == b""


@pytest.mark.parametrize("stack_bytes", [64 << 10, 1 << 20, 8 << 20])
def test_every_stack_size_overflows_into_an_error(engine: Engine, compiled: Any, stack_bytes: int) -> None:
    outcome = load(engine, compiled, "recurse", stack_bytes=stack_bytes).call(b"")
    assert isinstance(outcome.error, errors.StackOverflow)


def test_an_endless_guest_ends_at_its_wall_limit(engine: Engine, compiled: Any) -> None:
    outcome = load(engine, compiled, "loop", wall_ms=30).call(b"")
    assert isinstance(outcome.error, errors.DeadlineExceeded)
    assert "wall limit of 30 ms" in outcome.error.message
    assert outcome.duration_us >= 29_000


def test_the_caller_can_only_shorten_the_limit(engine: Engine, compiled: Any) -> None:
    outcome = load(engine, compiled, "loop", wall_ms=10_000).call(b"", None, 20.0)
    assert isinstance(outcome.error, errors.DeadlineExceeded)
    assert "caller's deadline" in outcome.error.message


def test_fuel_runs_out(engine: Engine, compiled: Any) -> None:
    outcome = load(engine, compiled, "loop", fuel=10_000).call(b"")
    assert isinstance(outcome.error, errors.OutOfFuel)
    assert outcome.error.details["code"] == 11
    assert load(engine, compiled, "add1", fuel=100_000).call(b"a").output == b"b"


def test_memory_is_bounded(engine: Engine, compiled: Any) -> None:
    outcome = load(engine, compiled, "memory_bomb", memory_bytes=4 << 20).call(b"")
    assert outcome.error is None
    assert int.from_bytes(outcome.output, "little") * 65536 <= 4 << 20


def test_a_minimum_memory_over_the_limit_is_refused(engine: Engine, compiled: Any) -> None:
    outcome = load(engine, compiled, "add1", memory_bytes=65536).call(b"a")
    assert isinstance(outcome.error, errors.WasmRefused)


def test_output_is_bounded(engine: Engine, compiled: Any) -> None:
    outcome = load(engine, compiled, "big_output", output_bytes=99_999).call(b"")
    assert isinstance(outcome.error, errors.OutputTooLarge)
    assert "100000" in outcome.error.message
    assert len(load(engine, compiled, "big_output", output_bytes=100_000).call(b"").output) == 100_000


def test_edge_alloc_may_not_point_outside(engine: Engine, compiled: Any) -> None:
    outcome = load(engine, compiled, "nonsense_alloc").call(b"0123456789")
    assert isinstance(outcome.error, errors.BadGuestOutput)
    assert "edge_alloc" in outcome.error.message


@settings(max_examples=60)
@given(pointer=st.integers(0, 2**32 - 1), length=st.integers(0, 2**32 - 1))
@example(pointer=131072, length=0)
@example(pointer=131071, length=1)
@example(pointer=131071, length=2)
@example(pointer=0xFFFFFFFF, length=0xFFFFFFFF)
@example(pointer=1, length=0xFFFFFFFF)
def test_edge_handle_may_say_anything(engine: Engine, compiled: Any, pointer: int, length: int) -> None:
    """The ABI boundary: for every pair the outcome is the right bytes or a typed error."""
    function = load(engine, compiled, "nonsense_handle")
    outcome = function.call((pointer << 32 | length).to_bytes(8, "little"))
    if pointer + length <= 2 * 65536:
        assert outcome.error is None
        assert len(outcome.output) == length
    else:
        assert isinstance(outcome.error, errors.BadGuestOutput)


def test_log_lines_come_with_the_outcome(engine: Engine, compiled: Any) -> None:
    outcome = load(engine, compiled, "log").call(b"hello \x1b[31m")
    assert list(outcome.log) == [(2, b"hello \x1b[31m")]
    assert outcome.output == b""


def test_long_log_lines_are_cut(engine: Engine, compiled: Any) -> None:
    assert len(load(engine, compiled, "log").call(bytes(5000)).log[0][1]) == 1024


def test_a_log_outside_the_memory_is_a_trap(engine: Engine, compiled: Any) -> None:
    outcome = load(engine, compiled, "log_outside").call(b"")
    assert isinstance(outcome.error, errors.GuestTrap)
    assert "edge_log" in outcome.error.message


def test_start_functions_and_reactors_run_first(engine: Engine, compiled: Any) -> None:
    assert load(engine, compiled, "start").call(b"").output == b"*"
    outcome = load(engine, compiled, "initialize").call(b"")
    assert outcome.output == b"+"
    assert outcome.stderr == b"constructed\n"


def test_what_no_pool_slot_holds_runs_on_demand(engine: Engine, compiled: Any) -> None:
    assert load(engine, compiled, "many_tables").call(b"x").output == b"x"


def test_the_interpreter_gives_the_same(engine: Engine, compiled: Any) -> None:
    from edgeagent.runtime.open_engine import open_engine

    name = "native" if engine.accelerated else "pure"
    interpreter = open_engine(name, workers=2, settings_target="pulley64", small_slots=8, large_slots=4)  # type: ignore[arg-type]
    try:
        function = load(interpreter, compiled, "add1", target="pulley64")
        assert function.call(b"abc").output == b"bcd"
        trapped = load(interpreter, compiled, "trap", target="pulley64").call(b"").error
        assert isinstance(trapped, errors.GuestTrap)
        looped = load(interpreter, compiled, "loop", target="pulley64", wall_ms=20).call(b"").error
        assert isinstance(looped, errors.DeadlineExceeded)
    finally:
        interpreter.close()


def test_code_for_another_engine_is_refused(engine: Engine, compiled: Any) -> None:
    with pytest.raises(errors.WasmRefused):
        load(engine, compiled, "add1", target="pulley64")


def test_a_closed_function_says_so(engine: Engine, compiled: Any) -> None:
    function = load(engine, compiled, "add1")
    function.close()
    with pytest.raises(errors.Unavailable):
        function.call(b"")
