"""What the node and a broker say to each other: one message is one packet of a SOCK_SEQPACKET pair. Pure.

A packet is a byte with the version (1), then MessagePack: an array of the message's name and its fields. Both ends are
of one version, for the node starts the broker out of its own package; whatever else comes is a broker out of its mind.

    node -> broker     work (a call, its operands in the arena), forget (a function), ping
    broker -> node     ready | absent | unfit, once; then done | failed for each work, in order, and pong for each ping
"""

from __future__ import annotations

from typing import Literal

import msgspec

from edgeagent.accel.descriptors import CALL_BYTES_MAX, NAME_BYTES_MAX, OPERANDS_MAX
from edgeagent.accel.errors import BrokerLost
from edgeagent.model.decoding import UNDECODABLE

__all__ = [
    "PACKET_BYTES_MAX",
    "Absent",
    "Done",
    "Failed",
    "Forget",
    "FromBroker",
    "Ping",
    "Pong",
    "Ready",
    "ToBroker",
    "Unfit",
    "Why",
    "Work",
    "pack",
    "to_broker",
    "to_node",
]

VERSION = 1
TEXT_MAX = 500
PACKET_BYTES_MAX = CALL_BYTES_MAX + NAME_BYTES_MAX + 2 * TEXT_MAX + 256 + 20 * OPERANDS_MAX

# memory: the device has none left; operand: a descriptor is of no use; kernel: it raised; poisoned and gone: this
# broker answers nothing more.
Why = Literal["memory", "operand", "kernel", "poisoned", "gone"]


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    pass


class Work(_Message, frozen=True):
    """A call of ``kernel`` as ``pack_call`` describes it; its operands lie in ``length`` bytes of the arena, and in
    ``maps``: (offset, bytes) of a file each, whose descriptors come with the packet.
    """

    id: int
    function: str
    kernel: str
    described: bytes
    offset: int
    length: int
    maps: tuple[tuple[int, int], ...] = ()


class Forget(_Message, frozen=True):
    """A function is gone, and what is kept for it can go."""

    function: str


class Ping(_Message, frozen=True):
    id: int


class Ready(_Message, frozen=True):
    """The self-test has passed; ``device`` is for people, ``memory_bytes`` 0: not known."""

    device: str
    memory_bytes: int = 0


class Absent(_Message, frozen=True):
    """There is no GPU that could be used here, now or later."""

    why: str


class Unfit(_Message, frozen=True):
    """The start, or the self-test, has failed."""

    why: str


class Done(_Message, frozen=True):
    """The outputs are in the arena; ``run_us`` is what the device and its copies took."""

    id: int
    run_us: int


class Failed(_Message, frozen=True):
    id: int
    kind: Why
    text: str


class Pong(_Message, frozen=True):
    """The known answer came out again; ``used_bytes`` of the device's memory are the broker's."""

    id: int
    used_bytes: int = 0


ToBroker = Work | Forget | Ping
FromBroker = Ready | Absent | Unfit | Done | Failed | Pong

_encoder = msgspec.msgpack.Encoder()
_of_node: msgspec.msgpack.Decoder[ToBroker] = msgspec.msgpack.Decoder(ToBroker)
_of_broker: msgspec.msgpack.Decoder[FromBroker] = msgspec.msgpack.Decoder(FromBroker)


def pack(message: ToBroker | FromBroker) -> bytes:
    """A packet; texts are cut so that it keeps to its bound."""
    if isinstance(message, Absent | Unfit):
        message = msgspec.structs.replace(message, why=message.why[:TEXT_MAX])
    elif isinstance(message, Failed):
        message = msgspec.structs.replace(message, text=message.text[:TEXT_MAX])
    elif isinstance(message, Ready):
        message = msgspec.structs.replace(message, device=message.device[:TEXT_MAX])
    return bytes([VERSION]) + _encoder.encode(message)


def to_broker(packet: bytes) -> ToBroker:
    """What the node says. Raises BrokerLost for what no node would say."""
    _check(packet)
    try:
        return _of_node.decode(packet[1:])
    except UNDECODABLE as error:
        raise BrokerLost(f"the node says nonsense: {error}") from None


def to_node(packet: bytes) -> FromBroker:
    """What the broker says. Raises BrokerLost for what no broker would say."""
    _check(packet)
    try:
        return _of_broker.decode(packet[1:])
    except UNDECODABLE as error:
        raise BrokerLost(f"the broker says nonsense: {error}") from None


def _check(packet: bytes) -> None:
    if len(packet) > PACKET_BYTES_MAX or packet[:1] != bytes([VERSION]):
        raise BrokerLost(
            "a packet of a broker is too long, or of another version",
            hint="restart the node after an upgrade",
        )
