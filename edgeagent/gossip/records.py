"""What a node says of itself: single-writer records, one for each section, each with its own version.

1. Only the node that a record names writes it, but for the ephemeris (5). The version is one counter of that node for
   all its sections; the identity's version is its incarnation. A reader keeps the highest version and nothing else, so
   order, loss and repetition of records do not matter.
2. The counter of a new life begins at ``first_version(boot epoch)``: milliseconds of UTC in the upper bits, so a
   restart begins above all that was written before, provided the clock did not fall back. Where it did, the node
   meets its own old signed record and goes on above that (:mod:`view`).
3. A signature covers name, section, version and payload. Hops left are not covered: they only shrink on the way.
4. An unknown value is None, never zero.
5. The ephemeris holds orbital elements that an operator on the ground found for a node. The operator signs it, and its
   version is ``first_version`` of the elements' epoch: newer elements win, whoever brings them.

Load changes every second and is of use nearby only: it travels over ``load_hops`` neighbours and no farther. The other
sections change seldom and go to everyone.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable
from typing import Annotated

import msgspec

from edgeagent.gossip.errors import RecordRefused

__all__ = [
    "HOPS_MAX",
    "NAME_BYTES_MAX",
    "PAYLOAD_BYTES_MAX",
    "SECTIONS_TO_ALL",
    "SIGNATURE_BYTES_MAX",
    "VERSION_MAX",
    "Capabilities",
    "Digests",
    "Identity",
    "Load",
    "Place",
    "Record",
    "Section",
    "Sign",
    "Trust",
    "Verify",
    "epoch_ms_of",
    "first_version",
    "next_epoch_ms",
    "signed_bytes",
    "write_payload",
]

NAME_BYTES_MAX = 64
PAYLOAD_BYTES_MAX = 960
SIGNATURE_BYTES_MAX = 96
HOPS_MAX = 15
VERSION_MAX = 2**62

_EPOCH_SHIFT = 16


class Section(enum.IntEnum):
    """The sections of a node's record, in the order in which they are told."""

    IDENTITY = 0
    PLACE = 1
    CAPABILITIES = 2
    FUNCTIONS = 3
    STATE = 4
    EPHEMERIS = 5
    LOAD = 6


SECTIONS_TO_ALL = tuple(int(section) for section in Section if section is not Section.LOAD)


class Trust(enum.IntEnum):
    """What the shell's check says of a record. UNVERIFIED: well-formed, but its key is anchored nowhere."""

    REFUSED = 0
    UNVERIFIED = 1
    VERIFIED = 2


_Endpoint = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Digest = Annotated[bytes, msgspec.Meta(min_length=4, max_length=32)]


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """Section 0. ``endpoints[0]`` is the address of gossip; ``left``: a farewell."""

    endpoints: Annotated[tuple[_Endpoint, ...], msgspec.Meta(min_length=1, max_length=8)]
    left: bool = False
    key: Annotated[bytes, msgspec.Meta(max_length=96)] = b""
    kind: Annotated[str, msgspec.Meta(max_length=32)] = ""


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Sections 1 and 5: orbital elements in orbit's compact form, or (1) a place on the ground (degrees, metres)."""

    elements: Annotated[bytes, msgspec.Meta(max_length=512)] = b""
    latitude_deg: float | None = None
    longitude_deg: float | None = None
    height_m: float | None = None


class Capabilities(msgspec.Struct, frozen=True, array_like=True):
    """Section 2: what does not change while the node runs."""

    architecture: Annotated[str, msgspec.Meta(max_length=32)] = ""
    cores: int | None = None
    memory_bytes: int | None = None
    gpu: Annotated[str, msgspec.Meta(max_length=64)] = ""
    labels: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=64)], ...], msgspec.Meta(max_length=16)
    ] = ()


class Digests(msgspec.Struct, frozen=True, array_like=True):
    """Sections 3 and 4: digests of the functions, or of the state, that the node holds; ``more``: the list is cut."""

    digests: Annotated[tuple[_Digest, ...], msgspec.Meta(max_length=64)] = ()
    more: bool = False


class Load(msgspec.Struct, frozen=True, array_like=True):
    """Section 6. Shares are from 0 to 1, None is unknown. ``gpu`` is its utilisation, ``gpu_state`` a
    :class:`model.gpu.GpuState`, ``gpu_queue`` how many calls wait for it.
    """

    cpu: float | None = None
    queue: int | None = None
    memory_free_bytes: int | None = None
    gpu: float | None = None
    temperature_c: float | None = None
    battery: float | None = None
    sunlit: bool | None = None
    # Told by nodes with a GPU alone, at the end: who does not know them reads what is before them.
    gpu_state: int | None = None
    gpu_temperature_c: float | None = None
    gpu_memory_free_bytes: int | None = None
    gpu_queue: int | None = None


_Value = Identity | Place | Capabilities | Digests | Load
_LOAD_FIELDS_FIRST = 7  # before ``gpu_state``
_identity_reader = msgspec.msgpack.Decoder(Identity)
_writer = msgspec.msgpack.Encoder()


def first_version(epoch_ms: int) -> int:
    """The version before the first one of a life that began at ``epoch_ms`` (UTC milliseconds since 1970)."""
    if not 0 <= epoch_ms < VERSION_MAX >> _EPOCH_SHIFT:
        raise RecordRefused(f"a boot epoch of {epoch_ms} ms cannot be", hint="set the clock")
    return epoch_ms << _EPOCH_SHIFT


def epoch_ms_of(version: int) -> int:
    """The boot epoch that a version tells of. Many writes carry over into it, which only moves it on."""
    return version >> _EPOCH_SHIFT


def next_epoch_ms(persisted: int | None, utc_ms: int) -> int:
    """The boot epoch of a new life: the clock's, or just above the last life's (what ``Persist`` wrote down) where the
    clock fell back.
    """
    return utc_ms if persisted is None else max(utc_ms, epoch_ms_of(persisted) + 1)


def write_payload(value: _Value) -> bytes:
    """The payload of a section's value. Raises RecordRefused above PAYLOAD_BYTES_MAX."""
    told: _Value | tuple[object, ...] = value
    if isinstance(value, Load) and value.gpu_state is None:
        told = msgspec.structs.astuple(value)[:_LOAD_FIELDS_FIRST]
    payload = _writer.encode(told)
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise RecordRefused(
            f"a record's payload has {len(payload)} bytes", hint=f"at most {PAYLOAD_BYTES_MAX} fit a datagram"
        )
    return payload


def signed_bytes(name: str, section: int, version: int, payload: bytes) -> bytes:
    """What a signature covers."""
    return _writer.encode((name, section, version, payload))


class Record:
    """One section of one node, as it came. ``blob`` is its encoded form, passed on as it is; ``mark`` stands for (name,
    section, version) in anti-entropy's sums. ``identity`` is the parsed payload of section 0, None elsewhere.

    Raises msgspec.ValidationError or DecodeError when section 0 does not hold an identity.
    """

    __slots__ = ("blob", "hops", "identity", "mark", "name", "payload", "section", "signature", "version")

    def __init__(
        self,
        name: str,
        section: int,
        version: int,
        payload: bytes,
        *,
        signature: bytes,
        hops: int,
        blob: bytes,
    ) -> None:
        self.name = name
        self.section = section
        self.version = version
        self.payload = payload
        self.signature = signature
        self.hops = hops
        self.blob = blob
        text = b"%s/%d/%d" % (name.encode(), section, version)
        self.mark = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
        self.identity = _identity_reader.decode(payload) if section == 0 else None

    def signed(self) -> bytes:
        """What its signature covers."""
        return signed_bytes(self.name, self.section, self.version, self.payload)


Sign = Callable[[bytes], bytes]
Verify = Callable[[Record], Trust]
