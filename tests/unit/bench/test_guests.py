"""The measured guests give right answers, and the baseline calls them as ours does."""

from __future__ import annotations

import pytest

from edgeagent.bench import guests
from edgeagent.bench.inprocess import wasmtime_py


@pytest.mark.parametrize("pooled", [False, True])
def test_the_baseline_adds_one_to_every_byte(pooled: bool) -> None:
    with wasmtime_py(guests.add1(), pooled=pooled) as call:
        assert call(guests.INPUT) == guests.EXPECTED
        assert call(bytes(range(256))) == bytes([*range(1, 256), 0])
        assert call(b"") == b""


def test_variants_differ_in_their_digest_alone() -> None:
    modules = {guests.add1(variant) for variant in (0, 1, 2, 257)}
    assert len(modules) == 4
    for module in modules:
        with wasmtime_py(module) as call:
            assert call(b"\x00a") == b"\x01b"


def test_echo_gives_the_input_back() -> None:
    with wasmtime_py(guests.echo()) as call:
        assert call(b"same") == b"same"


def test_spin_turns_as_often_as_it_is_told() -> None:
    def expected(turns: int) -> bytes:
        state = 2463534242
        for _ in range(turns):
            state ^= state << 13 & 0xFFFFFFFF
            state ^= state >> 17
            state ^= state << 5 & 0xFFFFFFFF
        return state.to_bytes(4, "little")

    with wasmtime_py(guests.spin()) as call:
        for turns in (0, 1, 1000):
            assert call(guests.spin_body(turns)) == expected(turns)
