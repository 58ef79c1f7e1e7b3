"""Whether a device computes: two calls with a known answer, through the same path as a function's.

Reports that a GPU is there mean little: drivers and libraries say so where the first kernel fails. Sums of whole
numbers are exact in any order, so that the answer is known to the bit, and a device that miscounts is found.
"""

from __future__ import annotations

import struct

from edgeagent.accel.backend import Backend
from edgeagent.accel.descriptors import Description, contiguous, pack_call
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.errors import BrokerLost
from edgeagent.accel.execute import CallLimits, prepare
from edgeagent.accel.registry import Registry

__all__ = ["SELF_TEST", "SELF_TEST_BYTES", "self_test"]

SELF_TEST = "-"  # the name of no function
_SIZE = 16
_FLOATS = struct.Struct(f"<{_SIZE * _SIZE}f")
SELF_TEST_BYTES = 4 * _FLOATS.size

_A = [float((3 * i + 5 * j) % 17 - 8) for i in range(_SIZE) for j in range(_SIZE)]
_B = [float((7 * i + 2 * j) % 13 - 6) for i in range(_SIZE) for j in range(_SIZE)]
_PRODUCT = [
    sum(_A[_SIZE * i + k] * _B[_SIZE * k + j] for k in range(_SIZE))
    for i in range(_SIZE)
    for j in range(_SIZE)
]
_ANSWER = [2.0 * one + 1.0 for one in _PRODUCT]


def self_test(backend: Backend, registry: Registry, slot: memoryview) -> None:
    """``slot`` has ``SELF_TEST_BYTES``. Raises BrokerLost for a wrong answer, and whatever the backend raises."""
    a, b, product, answer = (
        contiguous(place * _FLOATS.size, Dtype.F32, (_SIZE, _SIZE)) for place in range(4)
    )
    _FLOATS.pack_into(slot, a.offset, *_A)
    _FLOATS.pack_into(slot, b.offset, *_B)
    slot[product.offset :] = bytes(len(slot) - product.offset)
    for kernel, call in (
        ("matmul", Description((a, b), (product,))),
        ("elementwise", Description((product,), (answer,), (), "2 * a + 1")),
    ):
        prepared = prepare(registry, kernel, pack_call(call), len(slot), CallLimits())
        backend.run(SELF_TEST, prepared, slot)
    if list(_FLOATS.unpack_from(slot, answer.offset)) != _ANSWER:
        raise BrokerLost("the self-test has a wrong answer: the device does not compute what it should")
