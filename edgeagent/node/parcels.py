"""Payloads that came from other hosts and wait for the requests that use them. Pure: the shell brings the clock.

A parcel is used by any number of requests (local fan-out: it travelled once) until its sender releases it, or until
nobody has used it for ``keep_s``: a sender that died costs no more than that. Parcels are bounded in number and bytes.
"""

from __future__ import annotations

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

    def __len__(self) -> int:
        return len(self._parcels)

    def check_room(self, more: int) -> None:
        """Raises StorageFull where ``more`` bytes would not fit."""
        if len(self._parcels) >= self._count_max or self.bytes + more > self._bytes_max:
            raise StorageFull(
                f"{len(self._parcels)} parcels of other hosts hold {self.bytes} bytes here",
                retry_after_s=self._keep_s,
            )

    def add(self, id_: str, payload: P, now_s: float) -> None:
        """Keep it; the payload is the table's. Raises StorageFull, Conflict, by which it stays the caller's."""
        if id_ in self._parcels:
            raise Conflict(f"a parcel {id_[:40]} is here already")
        self.check_room(payload.size)
        self._parcels[id_] = _Parcel(payload, now_s + self._keep_s)
        self.bytes += payload.size

    def use(self, id_: str) -> P:
        """The payload for one request; ``done`` must follow. Raises NotFound."""
        parcel = self._parcels.get(id_)
        if parcel is None or parcel.is_released:
            raise NotFound(
                f"no parcel {id_[:40]} is here",
                hint="it was released, has expired, or the node was restarted",
                parcel=id_[:40],
            )
        parcel.users += 1
        return parcel.payload

    def done(self, id_: str, now_s: float) -> None:
        """A request that used it has ended."""
        parcel = self._parcels.get(id_)
        if parcel is None:
            return  # the node stops
        parcel.users -= 1
        parcel.expires_s = now_s + self._keep_s
        if parcel.is_released and not parcel.users:
            self._drop(id_)

    def take(self, id_: str) -> P:
        """The payload for good. Raises NotFound, also while requests use it."""
        payload = self.use(id_)
        if self._parcels[id_].users > 1:
            self._parcels[id_].users -= 1
            raise NotFound(f"the parcel {id_[:40]} is in use", parcel=id_[:40])
        self.bytes -= self._parcels.pop(id_).size
        return payload

    def release(self, id_: str) -> None:
        """Its sender needs it no more: dropped when the requests that use it have ended. Unknown ids are fine."""
        parcel = self._parcels.get(id_)
        if parcel is not None:
            parcel.is_released = True
            if not parcel.users:
                self._drop(id_)

    def expire(self, now_s: float) -> int:
        """Drop what nobody used for ``keep_s``; how many."""
        gone = [id_ for id_, p in self._parcels.items() if not p.users and now_s >= p.expires_s]
        for id_ in gone:
            self._drop(id_)
        return len(gone)

    def clear(self) -> None:
        """The end: drop all."""
        for id_ in list(self._parcels):
            self._drop(id_)

    def _drop(self, id_: str) -> None:
        parcel = self._parcels.pop(id_)
        self.bytes -= parcel.size
        parcel.payload.close()
