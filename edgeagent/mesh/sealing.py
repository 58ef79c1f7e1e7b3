"""Sealed packets: who has no secret of the cluster can neither read nor write them, and none counts twice.

Layout of version 1, big-endian, 53 bytes more than the plain packet:

| bytes | field |
|---|---|
| 1 | version = 1 |
| 4 | id of the secret |
| 8 | sender: BLAKE2b of its name |
| 8 | epoch: when the sender's life began, ms |
| 8 | random number of that life |
| 8 | counter |
| n + 16 | AES-256-GCM of the packet, the 37 bytes before it and the cluster's label authenticated with it |

1. Each life of each sender has a key of its own, HKDF-SHA256 of the secret (RFC 5869) with sender, epoch and random
   number as salt. The counter is the nonce: no key meets a nonce twice, whatever becomes of clock and disk.
2. A receiver accepts each counter once (:mod:`replay`), and of each sender only the newest life that it has heard. A
   sender that was silent for ``FORGET_S`` is forgotten, so that one whose clock fell back is not shut out for ever.
3. State is kept only for senders whose packet opened, and for so many at most; the one that was silent longest goes.

What this does not stop: a receiver that has just started has seen nothing, and takes a packet that was recorded before,
until it hears the sender itself. Such a packet tells old news, which versions and sequence numbers outdate.
"""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from edgeagent.mesh.errors import SealRefused
from edgeagent.mesh.keyring import Keyring, Secret
from edgeagent.mesh.replay import ReplayWindow

__all__ = ["FORGET_S", "OVERHEAD_BYTES", "SealedPackets"]

VERSION = 1
SENDERS_MAX = 65_536
FORGET_S = 600.0
_HEAD = struct.Struct(">BI8sQ8sQ")
_TAG_BYTES = 16
OVERHEAD_BYTES = _HEAD.size + _TAG_BYTES
_INFO = b"edgeagent mesh 1"
_COUNTER_MAX = 2**48  # far beyond any life, and far below what AES-GCM bears under one key


class _Life:
    """One life of one sender, under one secret."""

    __slots__ = ("cipher", "epoch", "heard_s", "nonce", "secret", "window")

    def __init__(self, secret: int, epoch: int, nonce: bytes, cipher: Any, window: ReplayWindow) -> None:
        self.secret = secret
        self.epoch = epoch
        self.nonce = nonce
        self.cipher = cipher
        self.window = window
        self.heard_s = 0.0


class SealedPackets:
    """A :class:`carrier.Seal`. ``nonce`` is 8 random bytes of this life, ``clock`` monotonic seconds."""

    def __init__(
        self, ring: Keyring, name: str, epoch_ms: int, nonce: bytes, clock: Callable[[], float]
    ) -> None:
        self._me = _sender_of(name)
        self._epoch = epoch_ms
        self._nonce = nonce
        self._clock = clock
        self._counter = 0
        self._lives: OrderedDict[bytes, _Life] = OrderedDict()
        self.use(ring)

    def use(self, ring: Keyring) -> None:
        """Another ring: seal with its primary, open with all of it."""
        self._ring = ring
        self._label = ring.label.encode()
        primary = ring.secret(ring.primary)
        assert primary is not None
        self._primary = primary.id
        self._cipher = self._derived(primary, self._me, self._epoch, self._nonce)

    @property
    def ring(self) -> Keyring:
        return self._ring

    def seal(self, data: bytes) -> bytes:
        counter = self._counter
        self._counter += 1
        if counter >= _COUNTER_MAX:
            raise SealRefused("this life has sent too many packets", hint="restart the node")
        head = _HEAD.pack(VERSION, self._primary, self._me, self._epoch, self._nonce, counter)
        sealed: bytes = self._cipher.encrypt(_nonce_of(counter), data, head + self._label)
        return head + sealed

    def open(self, data: bytes, source: str) -> bytes:
        """The packet within. Raises SealRefused."""
        if len(data) < OVERHEAD_BYTES or data[0] != VERSION:
            raise SealRefused(f"{len(data)} bytes from {source} are no sealed packet")
        _, secret_id, sender, epoch, nonce, counter = _HEAD.unpack_from(data)
        life = self._lives.get(sender)
        if life is None or (life.secret, life.epoch, life.nonce) != (secret_id, epoch, nonce):
            return self._first_of(life, secret_id, sender, data, source)
        if not life.window.is_new(counter):
            raise SealRefused(f"a packet from {source} was here before")
        plain = self._decrypted(life.cipher, data, counter, source)
        self._heard(sender, life, counter)
        return plain

    def _first_of(
        self, before: _Life | None, secret_id: int, sender: bytes, data: bytes, source: str
    ) -> bytes:
        """The first packet of a life, or the first under another secret."""
        _, _, _, epoch, nonce, counter = _HEAD.unpack_from(data)
        secret = self._ring.secret(secret_id)
        if secret is None:
            raise SealRefused(
                f"a packet from {source} is sealed with secret {secret_id}, which is not on our ring"
            )
        same_life = before is not None and (before.epoch, before.nonce) == (epoch, nonce)
        is_earlier = before is not None and not same_life and epoch < before.epoch
        if before is not None and is_earlier and self._clock() - before.heard_s < FORGET_S:
            raise SealRefused(f"a packet from {source} is of an earlier life of its sender")
        window = before.window if before is not None and same_life else ReplayWindow()
        if not window.is_new(counter):
            raise SealRefused(f"a packet from {source} was here before")
        life = _Life(secret_id, epoch, nonce, self._derived(secret, sender, epoch, nonce), window)
        plain = self._decrypted(life.cipher, data, counter, source)
        self._lives[sender] = life
        if len(self._lives) > SENDERS_MAX:
            self._lives.popitem(last=False)
        self._heard(sender, life, counter)
        return plain

    def _heard(self, sender: bytes, life: _Life, counter: int) -> None:
        life.window.take(counter)
        life.heard_s = self._clock()
        self._lives.move_to_end(sender)

    def _decrypted(self, cipher: Any, data: bytes, counter: int, source: str) -> bytes:
        from cryptography.exceptions import InvalidTag

        try:
            plain: bytes = cipher.decrypt(
                _nonce_of(counter), data[_HEAD.size :], data[: _HEAD.size] + self._label
            )
        except InvalidTag:
            raise SealRefused(f"a packet from {source} is forged, damaged or of another cluster") from None
        return plain

    def _derived(self, secret: Secret, sender: bytes, epoch: int, nonce: bytes) -> Any:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        salt = sender + epoch.to_bytes(8, "big") + nonce
        return AESGCM(HKDF(SHA256(), 32, salt=salt, info=_INFO + self._label).derive(secret.value))


def _sender_of(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def _nonce_of(counter: int) -> bytes:
    return counter.to_bytes(12, "big")
