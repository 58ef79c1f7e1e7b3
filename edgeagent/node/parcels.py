"""Payloads that came from other hosts and wait for the requests that use them. Pure: the shell brings the clock.

A parcel is used by any number of requests (local fan-out: it travelled once) until its sender releases it, or until
nobody has used it for ``keep_s``: a sender that died costs no more than that. Parcels are bounded in number and bytes.

Any thread may call: what arrives comes on the listener's threads, and all else on the loop's. No lock is held while a
payload is closed.
"""

from __future__ import annotations

import threading
from typing import Generic, Protocol, TypeVar

from edgeagent.model.errors import Conflict, NotFound, StorageFull

__all__ = ["Parcels"]


class _Payload(Protocol):
    @property
    def size(self) -> int: ...
    def close(self) -> None: ...


P = TypeVar("P", bound=_Payload)


class _Parcel(Generic[P]):
    __slots__ = ("expires_s", "is_released", "payload", "size", "users")

    def __init__(self, payload: P, expires_s: float) -> None:
        self.payload = payload
        self.size = payload.size
        self.expires_s = expires_s
        self.users = 0
        self.is_released = False


class Parcels(Generic[P]):
    """By id: the transfer's, which only its sender knows."""

    def __init__(self, *, count_max: int, bytes_max: int, keep_s: float) -> None:
        self.bytes = 0
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._keep_s = keep_s
        self._parcels: dict[str, _Parcel[P]] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._parcels)

    def check_room(self, more: int) -> None:
        """Raises StorageFull where ``more`` bytes would not fit."""
        with self._lock:
            count, held = len(self._parcels), self.bytes
        if count >= self._count_max or held + more > self._bytes_max:
            raise StorageFull(
                f"{count} parcels of other hosts hold {held} bytes here", retry_after_s=self._keep_s
            )

    def add(self, id_: str, payload: P, now_s: float) -> None:
        """Keep it; the payload is the table's. Raises StorageFull, Conflict, by which it stays the caller's."""
        with self._lock:
            if id_ in self._parcels:
                raise Conflict(f"a parcel {id_[:40]} is here already")
            self.check_room(payload.size)
            parcel = self._parcels[id_] = _Parcel(payload, now_s + self._keep_s)
            self.bytes += parcel.size

    def use(self, id_: str) -> P:
        """The payload for one request; ``done`` must follow. Raises NotFound."""
        with self._lock:
            parcel = self._parcels.get(id_)
            if parcel is not None and not parcel.is_released:
                parcel.users += 1
                return parcel.payload
        raise NotFound(
            f"no parcel {id_[:40]} is here",
            hint="it was released, has expired, or the node was restarted",
            parcel=id_[:40],
        )

    def done(self, id_: str, now_s: float) -> None:
        """A request that used it has ended."""
        with self._lock:
            parcel = self._parcels.get(id_)
            if parcel is None:
                return  # the node stops
            parcel.users -= 1
            parcel.expires_s = now_s + self._keep_s
            gone = self._removed(id_) if parcel.is_released and not parcel.users else None
        _close(gone)

    def take(self, id_: str) -> P:
        """The payload for good. Raises NotFound, also while requests use it."""
        with self._lock:
            payload = self.use(id_)
            if self._parcels[id_].users > 1:
                self._parcels[id_].users -= 1
                raise NotFound(f"the parcel {id_[:40]} is in use", parcel=id_[:40])
            self._removed(id_)
            return payload

    def release(self, id_: str) -> None:
        """Its sender needs it no more: dropped when the requests that use it have ended. Unknown ids are fine."""
        with self._lock:
            parcel = self._parcels.get(id_)
            if parcel is None:
                return
            parcel.is_released = True
            gone = self._removed(id_) if not parcel.users else None
        _close(gone)

    def expire(self, now_s: float) -> int:
        """Drop what nobody used for ``keep_s``; how many."""
        with self._lock:
            ids = [id_ for id_, p in self._parcels.items() if not p.users and now_s >= p.expires_s]
            gone = [self._removed(id_) for id_ in ids]
        _close(*gone)
        return len(gone)

    def clear(self) -> None:
        """The end: drop all."""
        with self._lock:
            gone = [self._removed(id_) for id_ in list(self._parcels)]
        _close(*gone)

    def _removed(self, id_: str) -> _Parcel[P]:
        """Off the table; the lock is held, and closing the payload is left to do without it."""
        parcel = self._parcels.pop(id_)
        self.bytes -= parcel.size
        return parcel


def _close(*gone: _Parcel[P] | None) -> None:
    for parcel in gone:
        if parcel is not None:
            parcel.payload.close()
