"""Checksums of payloads: which are known here, which is agreed, and how a connection computes it.

CRC-32 (that of zlib) is always at hand; the extension computes it at the speed of the cache on x86-64, ``isal`` or
``zlib_ng``, where installed, ten times faster than zlib. GMAC is the authentication half of AES-GCM, keyed by the
ticket's secret: with AES and carry-less multiplication in hardware it is some ten times faster than zlib's CRC, and
finds every damage with a certainty of 1 - 2**-128. Machines without that hardware say so by not offering it:
``remote_link.worthwhile`` measures, and where both ends prefer the CRC they take it.
CRC-32C is left out: its Python packages take no memoryview and would copy every byte.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib
import zlib
from collections.abc import Callable
from enum import IntFlag
from typing import Any

from edgeagent import native
from edgeagent.hose.errors import FrameRefused
from edgeagent.hose.frames import CHECK_BYTES

__all__ = [
    "ALL",
    "Buffer",
    "Check",
    "Checksum",
    "check_of",
    "choose",
    "crc32_is_native",
    "crc_function",
    "key_of",
    "nonce_of",
]

Buffer = bytes | bytearray | memoryview
Check = Callable[[Buffer, bytes], bytes]  # (payload, its nonce)
_KEY_BYTES = 16
_KEY_LABEL = b"edgeagent hose payloads 1\0"
_PADDING = bytes(CHECK_BYTES - 4)


class Checksum(IntFlag):
    """The bits of HELLO and GREETING; WELCOME holds CRC32 or GMAC."""

    CRC32 = 1
    GMAC = 2
    CRC32_FIRST = 4  # not an algorithm: CRC32 is faster here than GMAC


ALL = Checksum.CRC32 | Checksum.GMAC


def crc32_is_native() -> bool:
    """Whether the extension computes a CRC-32 at the speed of the cache."""
    return native.core is not None and bool(native.core.crc32_is_fast())


def _fastest_crc32() -> Callable[[Buffer], int]:
    if native.core is not None and crc32_is_native():
        return native.core.crc32  # type: ignore[no-any-return]
    for package, module in (("isal", "isal.isal_zlib"), ("zlib_ng", "zlib_ng.zlib_ng")):
        try:
            importlib.import_module(package)
            found: Any = importlib.import_module(module).crc32
        except (ImportError, AttributeError):
            continue
        # One that disagrees with zlib's would refuse every honest peer.
        if found(b"123456789") == 0xCBF43926:
            return found  # type: ignore[no-any-return]
    return zlib.crc32


crc_function = _fastest_crc32()


def key_of(secret: bytes, client_nonce: bytes, listener_nonce: bytes) -> bytes:
    """The key of one connection's checks; nonces are new each time, so no key is used twice."""
    return hmac.new(secret, _KEY_LABEL + client_nonce + listener_nonce, hashlib.sha256).digest()[:_KEY_BYTES]


def nonce_of(number: int, offset: int, *, resent: bool) -> bytes:
    """The 12 bytes that distinguish a payload from all others of its connection, as GMAC demands.

    ``number`` counts the connection's OFFERs from 1; within a transfer an offset is sent once, and again once.
    """
    return (number << 64 | resent << 63 | offset).to_bytes(12, "little")


def choose(theirs: int, ours: Checksum) -> Checksum:
    """The one that both sides offer: GMAC, unless both prefer CRC-32. Raises FrameRefused where there is none."""
    common = theirs & ours
    order = (
        (Checksum.CRC32, Checksum.GMAC) if common & Checksum.CRC32_FIRST else (Checksum.GMAC, Checksum.CRC32)
    )
    for candidate in order:
        if common & candidate:
            return candidate
    raise FrameRefused("no checksum in common")


def check_of(agreed: int, key: bytes) -> Check:
    """The function that computes what DATA frames carry. Raises FrameRefused where ``agreed`` is not known here."""
    if agreed == Checksum.CRC32:
        return _crc32
    if agreed == Checksum.GMAC:
        return _gmac(key)
    raise FrameRefused(f"checksum {agreed} is not known here")


def _crc32(data: Buffer, _: bytes) -> bytes:
    return crc_function(data).to_bytes(4, "little") + _PADDING


def _gmac(key: bytes) -> Check:
    # Here, because it takes 8 MiB: a node that no other host talks to need not have it.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    cipher = AESGCM(key)

    def check(data: Buffer, nonce: bytes) -> bytes:
        return cipher.encrypt(nonce, b"", data)

    return check
