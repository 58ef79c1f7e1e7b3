"""Random operations of many instances on hoses, checked against a model of what each of them must read.

The invariants: no operation kills the process; nobody reads what another wrote after it was handed over; every loan and
every fresh page is zeros; in the end nothing is left mapped, lent or live.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule, run_state_machine_as_test

from edgeagent.hose.settings import TIERS, Crossovers, HoseSettings
from edgeagent.runtime.open_engine import open_engine
from edgeagent.runtime.port import Engine, Function, Outcome, Payload
from edgeagent.runtime.pure_call import PurePayload
from tests.conftest import engine_names
from tests.contract.calls import load
from tests.contract.hose_calls import HoseProgram, Ref, hose_guest, results

MIB = 1 << 20
# Low crossovers, so that every tier is used at sizes that are quick.
LOW = Crossovers(
    flip_bytes_min=64 << 10,
    exchange_bytes_min=192 << 10,
    window_bytes_min=4096,
    share_bytes_min=4096,
    loan_bytes_min=4096,
    huge_bytes_min=MIB,
)

_numbers = st.sampled_from(
    [0, 1, 7, 64, 4095, 4096, 65536, 300_000, MIB, 3 * MIB, 0x7FFFFFFF, 0xFFFFF000, 0xFFFFFFFF]
)
_names = st.sampled_from(
    ["recv_info", "recv", "loan", "publish", "map", "release", "load", "any", "grow", "take"]
)


def _open(name: str) -> Engine:
    opened = open_engine(name, workers=2, small_slots=8, large_slots=4)  # type: ignore[arg-type]
    opened.use_hoses(HoseSettings(crossovers=LOW, pool_bytes_max=64 * MIB))
    return opened


@pytest.fixture(scope="module", params=["pure", "native"])
def function(request: pytest.FixtureRequest, compiled: Any) -> Any:
    if request.param not in engine_names():
        pytest.skip("the extension is not built")
    opened = _open(request.param)
    yield load(opened, compiled, hose_guest(), memory_bytes=24 * MIB)
    assert opened.stats().live_instances == 0
    opened.close()


@settings(max_examples=150)
@given(
    calls=st.lists(
        st.tuples(
            _names,
            st.lists(st.one_of(_numbers, st.integers(0, 20).map(lambda i: -i - 1)), min_size=3, max_size=3),
        ),
        max_size=40,
    )
)
def test_any_arguments(function: Function, calls: list[tuple[str, list[int]]]) -> None:
    """A negative number stands for the result of an earlier call."""
    p = HoseProgram()
    for i, (name, raw) in enumerate(calls):
        args = [n if n >= 0 else Ref(-n - 1) if -n - 1 < i else 0 for n in raw]
        p.call(name, *args)
    outcome = function.call(p.encoded() + bytes(8192))
    if outcome.error is not None:
        assert outcome.error.slug in {"guest-trap", "bad-guest-output"}


class Chain(RuleBasedStateMachine):
    """Payloads and what their bytes must be; consumers that check them, scribble over them, and pass them on."""

    engine: Engine
    function: Function
    pair: tuple[Function, Function]  # for exchanges: nothing else moves them to other slots
    tiers: Counter[str]
    payloads = Bundle("payloads")

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Payload] = []

    def teardown(self) -> None:
        for payload in self.made:
            payload.close()

    def _produce(self, value: int, count: int, lent: bool) -> Payload:
        probe = HoseProgram()
        probe.call("any", 8192, 32768)
        p = HoseProgram()
        at = p.call("loan", count) if lent else p.call("take", count, 16)
        p.call("fill", at, value, count)
        p.call("fill", at, 0, 4)  # no program for whoever takes it
        p.call("reply", at, count)
        outcome = self.function.call(p.encoded(), keep=True)
        assert outcome.error is None, outcome.error
        assert results(self.function.call(probe.encoded()))[0] == 0
        payload = outcome.payload or PurePayload(bytes(outcome.output), {})
        self.made.append(payload)
        return payload

    @rule(
        target=payloads,
        value=st.integers(1, 255),
        count=st.sampled_from([64, 4096, 70_000, 262_144, MIB, 2 * MIB + 4096]),
        lent=st.booleans(),
    )
    def produce(self, value: int, count: int, lent: bool) -> tuple[Payload, int]:
        return self._produce(value, count - count % 8, lent), value

    def _call(self, payload: Payload, move: bool) -> Outcome:
        given = payload.read() if isinstance(payload, PurePayload) else payload
        return self.function.call(given, move=move)

    @rule(item=payloads)
    def read(self, item: tuple[Payload, int]) -> None:
        payload, value = item
        data = bytes(payload.read())
        assert data[4:] == bytes([value]) * (payload.size - 4)

    @rule(item=payloads)
    def share(self, item: tuple[Payload, int]) -> None:
        item[0].share()

    @rule(item=payloads)
    def call_and_leave(self, item: tuple[Payload, int]) -> None:
        assert results(self._call(item[0], move=False)) == []

    @rule(item=consumes(payloads))
    def call_and_move(self, item: tuple[Payload, int]) -> None:
        assert results(self._call(item[0], move=True)) == []
        item[0].close()

    @rule(item=consumes(payloads))
    def close(self, item: tuple[Payload, int]) -> None:
        item[0].close()
        item[0].close()

    @rule(value=st.integers(1, 255), count=st.sampled_from([262_144, 300_000, MIB, 2 * MIB + 4096]))
    def warm_chain(self, value: int, count: int) -> None:
        """Both sides warm, so that pages are exchanged; the producer's old ones were the consumer's, and are zeros."""
        count -= count % 8
        first, second = self.pair
        p = HoseProgram()
        at = p.call("take", count, 16)
        before = p.call("any", at, count)
        p.call("fill", at, value, count)
        p.call("store", at)  # no program for whoever takes it
        p.call("store", Ref(at.call, 4), before)
        p.call("reply", at, count)
        made = first.call(p.encoded(), keep=True)
        assert made.error is None, made.error
        payload = made.payload or PurePayload(bytes(made.output), {})
        self.made.append(payload)
        data = bytes(payload.read())
        assert data == bytes(8) + bytes([value]) * (count - 8)
        outcome = second.call(data if isinstance(payload, PurePayload) else payload)
        assert results(outcome) == []
        self.tiers[TIERS[outcome.hose[0]]] += 1
        payload.close()

    @rule(count=st.sampled_from([4096, MIB, 4 * MIB]), lent=st.booleans())
    def fresh_memory_is_zeros(self, count: int, lent: bool) -> None:
        p = HoseProgram()
        at = p.call("loan", count) if lent else p.call("take", count, 4096)
        seen = p.call("any", at, count)
        p.call("fill", at, 0xEE, count)
        assert results(self.function.call(p.encoded()))[seen.call] == 0


@pytest.mark.parametrize("name", ["pure", "native"])
def test_against_a_model(name: str, compiled: Any) -> None:
    if name not in engine_names():
        pytest.skip("the extension is not built")
    engine = _open(name)
    function = load(engine, compiled, hose_guest(), memory_bytes=24 * MIB)
    pair = tuple(load(engine, compiled, hose_guest(), memory_bytes=24 * MIB) for _ in range(2))
    tiers: Counter[str] = Counter()
    shared = {"engine": engine, "function": function, "pair": pair, "tiers": tiers}
    machine = type("Machine", (Chain,), shared)
    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=25))
    assert tiers["exchange"] > 0 or name == "pure"
    engine.close()
    assert engine.stats().live_instances == 0


@pytest.mark.parametrize("name", ["pure", "native"])
def test_many_threads(name: str, compiled: Any) -> None:
    """Each thread has a pattern of its own, and never reads another's."""
    if name not in engine_names():
        pytest.skip("the extension is not built")
    engine = _open(name)
    function = load(engine, compiled, hose_guest(), memory_bytes=24 * MIB)
    wrong: list[str] = []

    tiers: Counter[str] = Counter()

    def work(value: int) -> None:
        pair = tuple(load(engine, compiled, hose_guest(), memory_bytes=24 * MIB) for _ in range(2))
        shared = {"engine": engine, "function": function, "pair": pair, "tiers": tiers}
        chain = type("Chained", (Chain,), shared)()
        for turn in range(60):
            count = (65536, MIB, 2 * MIB + 4096)[turn % 3]
            payload = chain._produce(value, count, lent=turn % 2 == 0)
            if turn % 5 == 0:
                payload.share()
            data = bytes(payload.read())
            if data[4:] != bytes([value]) * (count - 4):
                wrong.append(f"{value}: {data[:8].hex()}")
            if results(chain._call(payload, move=turn % 3 == 0)) != []:
                wrong.append(f"{value}: ran something")
            payload.close()
            chain.warm_chain(value, count)
        chain.teardown()

    threads = [threading.Thread(target=work, args=(i + 1,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    engine.close()
    assert engine.stats().live_instances == 0
