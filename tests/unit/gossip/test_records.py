"""Versions and payloads of records."""

from __future__ import annotations

import msgspec
import pytest

from edgeagent.gossip.errors import RecordRefused
from edgeagent.gossip.records import (
    PAYLOAD_BYTES_MAX,
    Digests,
    Load,
    Place,
    epoch_ms_of,
    first_version,
    next_epoch_ms,
    write_payload,
)
from edgeagent.model.gpu import GpuState
from tests.unit.gossip.parts import EPOCH_MS, identity, record


def test_a_new_life_begins_above_the_last_one_whatever_the_clock_says() -> None:
    last = first_version(EPOCH_MS) + 70_000  # so many writes carry over into the epoch
    assert epoch_ms_of(last) == EPOCH_MS + 1
    for utc_ms in (0, EPOCH_MS, EPOCH_MS + 10):
        assert first_version(next_epoch_ms(last, utc_ms)) > last
    assert next_epoch_ms(None, 5) == 5
    assert next_epoch_ms(last, EPOCH_MS + 10) == EPOCH_MS + 10


@pytest.mark.parametrize("epoch_ms", [-1, 1 << 46])
def test_impossible_epochs_are_refused(epoch_ms: int) -> None:
    with pytest.raises(RecordRefused, match="boot epoch"):
        first_version(epoch_ms)


def test_payloads_are_bounded() -> None:
    with pytest.raises(RecordRefused, match=f"at most|has {PAYLOAD_BYTES_MAX}|bytes"):
        write_payload(Digests(tuple(bytes([n]) * 32 for n in range(40))))
    assert len(write_payload(Load())) == 8  # unknown is not zero: seven nils
    assert len(write_payload(Place(elements=bytes(387)))) < PAYLOAD_BYTES_MAX


def test_marks_tell_name_section_and_version_apart() -> None:
    marks = {
        identity("a").mark,
        identity("b").mark,
        identity("a", 2).mark,
        record("a", 1, 1, Place()).mark,
        record("a", 1, 1, Place(latitude_deg=1.0)).mark,  # the same version: the same mark
    }
    assert len(marks) == 4


def test_a_signature_covers_all_but_the_hops() -> None:
    one = record("a", 6, 1, Load(cpu=0.5), hops=2)
    assert one.signed() == record("a", 6, 1, Load(cpu=0.5), hops=1).signed()
    others = [
        record("b", 5, 1, Load(cpu=0.5)),
        record("a", 5, 2, Load(cpu=0.5)),
        record("a", 6, 1, Load(cpu=0.6)),
    ]
    assert all(one.signed() != other.signed() for other in others)


class _OldLoad(msgspec.Struct, frozen=True, array_like=True):
    """A load as it was before there was anything to say of GPUs."""

    cpu: float | None = None
    queue: int | None = None
    memory_free_bytes: int | None = None
    gpu: float | None = None
    temperature_c: float | None = None
    battery: float | None = None
    sunlit: bool | None = None


def test_a_load_with_a_gpu_is_read_by_old_peers_and_one_without_is_what_it_was() -> None:
    plain = Load(cpu=0.5, queue=3, sunlit=True)
    assert write_payload(plain) == msgspec.msgpack.encode(_OldLoad(cpu=0.5, queue=3, sunlit=True))
    told = Load(
        cpu=0.5,
        queue=3,
        memory_free_bytes=2**36,
        gpu=0.25,
        temperature_c=61.5,
        battery=0.5,
        sunlit=False,
        gpu_state=GpuState.THROTTLED,
        gpu_temperature_c=84.5,
        gpu_memory_free_bytes=2**36,
        gpu_queue=40,
    )
    payload = write_payload(told)
    assert len(payload) <= 80  # of PAYLOAD_BYTES_MAX
    assert msgspec.msgpack.decode(payload, type=_OldLoad).gpu == 0.25
    assert msgspec.msgpack.decode(payload, type=Load) == told
    assert msgspec.msgpack.decode(write_payload(plain), type=Load) == plain
