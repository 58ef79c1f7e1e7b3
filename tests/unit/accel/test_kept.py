"""What is kept of controllers: the same choices afterwards, bounds, and files that are none."""

from __future__ import annotations

import random
import zlib
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.accel.controller import Controller
from edgeagent.accel.errors import KeptDamaged
from edgeagent.accel.kept import (
    BYTES_MAX,
    KeptClass,
    KeptController,
    KeptFunction,
    Shelf,
    read_shelf,
    write_shelf,
)
from edgeagent.accel.settings import ControllerSettings

SIZES = {1e4: (0.2, 1.0), 1e6: (4.0, 2.0), 1e9: (900.0, 30.0)}  # ms of CPU and GPU


def controller(seed: int = 1) -> Controller:
    return Controller(ControllerSettings(), random.Random(seed))


def play(one: Controller, count: int, seed: int = 2) -> list[str]:
    """The backends that served."""
    chance, served = random.Random(seed), []
    one.gpu_is(ready=True)
    for number in range(count):
        size = chance.choice(list(SIZES))
        cpu_ms, gpu_ms = (ms * chance.lognormvariate(0.0, 0.1) for ms in SIZES[size])
        ms = {"cpu": cpu_ms, "gpu": gpu_ms}
        route = one.route(float(number), size)
        one.served(float(number), size, route.backend, ms[route.backend])
        if route.probe is not None:
            one.probed(float(number), size, route.probe, ms[route.backend], ms[route.probe.backend])
        served.append(f"{size:g} {route.backend}")
    return served


def function(kept: KeptController, **more: object) -> KeptFunction:
    made = KeptFunction("H", "cpu_preferred", "gpu", "to the GPU", "", 3, 4, 0, 1, {"matmul": kept})
    return msgspec.structs.replace(made, **more)


def test_a_controller_goes_on_where_another_was() -> None:
    first = controller()
    play(first, 300)
    shelf = Shelf()
    shelf.put("step", "aa", function(first.kept()))
    again = read_shelf(write_shelf(shelf.items())).get("step", "aa")
    assert again is not None
    assert again == shelf.get("step", "aa")
    second, anew = controller(), controller()
    second.resume(again.kernels["matmul"])
    best = {"10000 cpu", "1e+06 gpu", "1e+09 gpu"}
    assert set(play(second, 40, seed=3)) <= best
    assert not set(play(anew, 40, seed=3)) <= best
    assert second.changes == []
    assert len(second.kept().classes) == 3


def test_what_is_taken_up_is_looked_at_once_more_and_may_change() -> None:
    first, second = controller(), controller()
    play(first, 300)
    second.resume(first.kept())
    second.gpu_is(ready=True)
    probes = 0
    for number in range(60):  # the GPU is twenty times as slow as it was
        route = second.route(float(number), 1e9)
        ms = {"cpu": 900.0, "gpu": 6000.0}
        second.served(float(number), 1e9, route.backend, ms[route.backend])
        if route.probe is not None:
            probes += 1
            second.probed(float(number), 1e9, route.probe, ms[route.backend], ms[route.probe.backend])
    assert probes
    assert second.route(60.0, 1e9).backend == "cpu"


def test_a_controller_of_fewer_classes_takes_what_it_has_room_for() -> None:
    first = controller()
    play(first, 100)
    small = Controller(replace(ControllerSettings(), classes_max=2), random.Random(1))
    small.resume(first.kept())
    assert len(small.kept().classes) == 2


def test_the_file_is_bounded_and_the_newest_stays() -> None:
    first = controller()
    play(first, 200)
    kept = first.kept()
    large = function(kept, kernels={f"k{number:03}": kept for number in range(100)})
    several = function(kept, kernels=dict.fromkeys("abc", kept))
    shelf = Shelf()
    for number in range(1100):
        shelf.put(f"f{number}", "aa", large if number == 1099 else several)
    assert len(shelf) == 1024
    data = write_shelf(shelf.items())
    assert len(data) <= BYTES_MAX
    read = read_shelf(data)
    assert read.get("f1098", "aa") == several
    assert read.get("f200", "aa") is None
    newest = read.get("f1099", "aa")
    assert newest is not None
    assert 1 <= len(newest.kernels) < 100
    assert "k099" in newest.kernels
    assert read.items()[0][0] == ("f1099", "aa")


def test_counts_go_with_the_function() -> None:
    assert function(controller().kept()).uncounted() == function(
        controller().kept(), calls_cpu=0, calls_gpu=0, switches=0
    )


def kept_class(**more: object) -> KeptClass:
    made = KeptClass(3, "cpu", 9, 9, False, (2,), (0.0, 1.0), 0.1, ((1, 2.0),), ((2, 3.0),), ((2, 0.1),))
    return msgspec.structs.replace(made, **more)


def written(one: KeptClass) -> bytes:
    shelf = Shelf()
    shelf.put("step", "aa", function(KeptController(9, (one,))))
    return write_shelf(shelf.items())


@pytest.mark.parametrize(
    "odd",
    [
        {"cpu": ((5, 1.0), (4, 1.0))},
        {"pairs": ((10, 1.0),)},
        {"gpu": ((1, float("nan")),)},
        {"prior": (float("inf"), 1.0)},
        {"prior": (0.0, 0.0)},
        {"spread2": -1.0},
        {"which": 99},
        {"number": -1},
        {"cpu": tuple((0, 1.0) for _ in range(1000))},
        {"backend": "tpu"},
    ],
)
def test_what_no_controller_would_keep_is_refused(odd: dict[str, object]) -> None:
    assert len(read_shelf(written(kept_class()))) == 1
    sound = written(kept_class())
    body = sound[len(b"edgeagent accel 1\n") + 4 :]
    fields = msgspec.msgpack.decode(body)
    names = KeptClass.__struct_fields__
    for name, value in odd.items():
        fields[0][2][9]["matmul"][1][0][names.index(name)] = value
    body = msgspec.msgpack.encode(fields)
    with pytest.raises(KeptDamaged):
        read_shelf(b"edgeagent accel 1\n" + zlib.crc32(body).to_bytes(4, "little") + body)


@given(place=st.integers(0, 10_000), byte=st.integers(1, 255), cut=st.integers(0, 10_000))
def test_a_damaged_file_is_found_out(place: int, byte: int, cut: int) -> None:
    data = bytearray(written(kept_class()))
    with pytest.raises(KeptDamaged):
        read_shelf(bytes(data[: cut % len(data)]))
    data[place % len(data)] ^= byte
    with pytest.raises(KeptDamaged):
        read_shelf(bytes(data))


def test_another_version_is_named() -> None:
    with pytest.raises(KeptDamaged, match="another version"):
        read_shelf(b"edgeagent accel 2\nwhatever")
    with pytest.raises(KeptDamaged):
        read_shelf(written(kept_class()) + bytes(BYTES_MAX))
