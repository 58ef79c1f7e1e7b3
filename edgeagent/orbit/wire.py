"""An element set as bytes, for gossip: exact, versioned, about 80 bytes for a catalogued satellite.

Layout of version 1, big-endian, no padding:

| bytes | field |
|---|---|
| 1 | version = 1 |
| 1 | flags, below |
| 8 | epoch, microseconds UTC since 1970, signed |
| 24 or 48 | mean motion, eccentricity, inclination, RAAN, argument of perigee, mean anomaly |
| 8 each | those of bstar, mean motion dot, mean motion double dot that are not zero |
| 4 | catalogue number, where known |
| 4 + 4 | element set number, revolution, where one of them is not zero |
| 1 | ephemeris type in the upper half; 0 in the lower |
| 1 | classification, ASCII |
| 1 + n, three times | name, designator, source: length and UTF-8 |

Flags: 1 the six are unsigned 32-bit multiples of 1e-8 rev/day, 1e-7 and 1e-4 degree (TLE digits; 24 bytes), else
doubles (48 bytes); 2, 4, 8 bstar, dot, double dot follow; 16 catalogue number follows; 32 set number and revolution
follow. Bits 64 and 128 are zero. The short form is used only where it gives back the very same doubles.

A reader refuses unknown versions, flags and trailing bytes: a version is changed by a new number, and a node reads
its own and the one before.
"""

from __future__ import annotations

import struct

from edgeagent.orbit.elements import Elements
from edgeagent.orbit.errors import ElementsRefused, WireRefused

__all__ = ["WIRE_BYTES_MAX", "WIRE_VERSION", "decode_elements", "encode_elements"]

WIRE_VERSION = 1
WIRE_BYTES_MAX = 1 + 1 + 8 + 48 + 24 + 4 + 8 + 2 + (1 + 128) + (1 + 32) + (1 + 128)

_DECIMAL, _ID, _SERIAL, _KNOWN_FLAGS = 1, 16, 32, 63
_SCALES = (1e8, 1e7, 1e4, 1e4, 1e4, 1e4)
_HEAD, _SIX_SHORT, _SIX = struct.Struct(">BBq"), struct.Struct(">6I"), struct.Struct(">6d")
_DOUBLE, _UINT, _SERIALS, _TAIL = (
    struct.Struct(">d"),
    struct.Struct(">I"),
    struct.Struct(">II"),
    struct.Struct(">Bc"),
)


def _six(one: Elements) -> tuple[float, ...]:
    return (
        one.mean_motion_rev_day,
        one.eccentricity,
        one.inclination_deg,
        one.raan_deg,
        one.arg_perigee_deg,
        one.mean_anomaly_deg,
    )


def _rates(one: Elements) -> tuple[float, ...]:
    return one.bstar_per_er, one.mean_motion_dot_rev_day2, one.mean_motion_ddot_rev_day3


def encode_elements(one: Elements) -> bytes:
    """The bytes of an element set; at most :data:`WIRE_BYTES_MAX`. :func:`decode_elements` gives back an equal one."""
    six = _six(one)
    short = [round(value * scale) for value, scale in zip(six, _SCALES, strict=True)]
    decimal = all(count / scale == value for count, scale, value in zip(short, _SCALES, six, strict=True))
    flags = _DECIMAL if decimal else 0
    parts = [_SIX_SHORT.pack(*short) if decimal else _SIX.pack(*six)]
    for bit, rate in zip((2, 4, 8), _rates(one), strict=True):
        if rate != 0.0:
            flags |= bit
            parts.append(_DOUBLE.pack(rate))
    if one.norad_id is not None:
        flags |= _ID
        parts.append(_UINT.pack(one.norad_id))
    if one.element_set or one.rev_at_epoch:
        flags |= _SERIAL
        parts.append(_SERIALS.pack(one.element_set, one.rev_at_epoch))
    parts.append(_TAIL.pack(one.ephemeris_type << 4, one.classification.encode()))
    for text in (one.name, one.object_id, one.source):
        raw = text.encode()
        parts += [bytes([len(raw)]), raw]
    return b"".join([_HEAD.pack(WIRE_VERSION, flags, one.epoch_us), *parts])


class _Reader:
    """Takes pieces off the front; raises WireRefused when there are not enough."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        if len(piece) != count:
            raise WireRefused(
                f"an element set ends after {len(self._data)} bytes", hint="ask the sender again"
            )
        self._at += count
        return piece

    def unpack(self, form: struct.Struct) -> tuple[float, ...]:
        return form.unpack(self.take(form.size))

    def text(self) -> str:
        try:
            return self.take(self.take(1)[0]).decode()
        except UnicodeDecodeError:
            raise WireRefused("a text of an element set is not UTF-8", hint="ask the sender again") from None

    def end(self) -> None:
        if self._at != len(self._data):
            rest = len(self._data) - self._at
            raise WireRefused(f"{rest} bytes follow an element set", hint="hand over one record at a time")


def _refuse(what: str) -> WireRefused:
    return WireRefused(f"an element set {what}", hint="let both nodes run versions that follow each other")


def decode_elements(data: bytes) -> Elements:
    """The element set of some bytes. Raises WireRefused, and nothing else, for bytes that are none."""
    reader = _Reader(bytes(data))
    version, flags, epoch_us = _HEAD.unpack(reader.take(_HEAD.size))
    if version != WIRE_VERSION:
        raise _refuse(f"is of version {version}; this node reads {WIRE_VERSION}")
    if flags & ~_KNOWN_FLAGS:
        raise _refuse(f"has flags {flags:#x} that version {WIRE_VERSION} does not know")
    if flags & _DECIMAL:
        six = [count / scale for count, scale in zip(reader.unpack(_SIX_SHORT), _SCALES, strict=True)]
    else:
        six = list(reader.unpack(_SIX))
    rates = [reader.unpack(_DOUBLE)[0] if flags & bit else 0.0 for bit in (2, 4, 8)]
    norad_id = _UINT.unpack(reader.take(4))[0] if flags & _ID else None
    element_set, rev = _SERIALS.unpack(reader.take(8)) if flags & _SERIAL else (0, 0)
    kind, classification = _TAIL.unpack(reader.take(_TAIL.size))
    if kind & 0x0F:
        raise _refuse("has bits set that version 1 leaves zero")
    name, object_id, source = reader.text(), reader.text(), reader.text()
    reader.end()
    try:
        return Elements(
            epoch_us=epoch_us,
            mean_motion_rev_day=six[0],
            eccentricity=six[1],
            inclination_deg=six[2],
            raan_deg=six[3],
            arg_perigee_deg=six[4],
            mean_anomaly_deg=six[5],
            bstar_per_er=rates[0],
            mean_motion_dot_rev_day2=rates[1],
            mean_motion_ddot_rev_day3=rates[2],
            norad_id=norad_id,
            object_id=object_id,
            name=name,
            classification=classification.decode("latin-1"),
            element_set=element_set,
            rev_at_epoch=rev,
            ephemeris_type=kind >> 4,
            source=source,
        )
    except ElementsRefused as error:
        raise WireRefused(error.message, hint="ask the sender again", **error.details) from None
