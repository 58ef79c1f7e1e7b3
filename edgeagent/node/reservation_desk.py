"""Reservations at this node: others ask before they send work, and are answered by what is true here, not by gossip."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from edgeagent.model.errors import EdgeError, NotFound, Unavailable
from edgeagent.model.signature import canonical_manifest
from edgeagent.node import machine
from edgeagent.node.config_schema import PlacementSection
from edgeagent.node.function_fetch import FunctionFetch
from edgeagent.node.runs.function_ref import FunctionRef
from edgeagent.node.ties import Parts
from edgeagent.placement.errors import NotAdmitted

if TYPE_CHECKING:
    from edgeagent.placement.reservations import Reservations

__all__ = ["ReservationDesk", "ReserveReply", "ReserveRequest"]


class ReserveRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks wants to run this function here soon. The same ``key`` again is the same reservation.

    ``sources`` are nodes that have the module, should it be missing here.
    """

    key: Annotated[str, Meta(min_length=1, max_length=128)]
    peer: Annotated[str, Meta(min_length=1, max_length=64)]
    function: FunctionRef
    sources: Annotated[tuple[str, ...], Meta(max_length=8)] = ()
    memory_bytes: Annotated[int, Meta(ge=0, le=1 << 50)] = 0
    wall_ms: Annotated[float, Meta(gt=0, le=86_400_000)] = 10_000.0


class ReserveReply(msgspec.Struct, frozen=True, kw_only=True):
    """``id`` goes with the call; unused it ends in ``expires_ms``."""

    id: str
    node: str
    expires_ms: float
    fetched: bool = False


class ReservationDesk:
    """On the event loop's thread."""

    def __init__(self, settings: PlacementSection, parts: Parts, fetch: FunctionFetch, *, epoch: int) -> None:
        self._settings = settings
        self._node_id = parts.node_id
        self._functions = parts.functions
        self._invoker = parts.invoker
        self._membership = parts.membership
        self._fetch = fetch
        self._concurrency_max = 2 * parts.workers
        self._epoch = epoch
        self._made: Reservations | None = None
        self.refused = 0

    @property
    def _reservations(self) -> Reservations:
        if self._made is None:  # the first one brings the room of placement
            from edgeagent.placement.reservations import Reservations

            self._made = Reservations(ttl_ms=self._settings.reserve_ms, epoch=self._epoch)
        return self._made

    @property
    def held(self) -> int:
        return 0 if self._made is None else self._made.held

    async def reserve(self, request: ReserveRequest) -> ReserveReply:
        """Admit or refuse; what is missing of the function is fetched and verified first.

        Raises NotAdmitted, Unavailable, Refused, Conflict, PeerFailed.
        """
        is_own = request.peer == self._node_id
        if not is_own and not self._settings.guest_work:
            raise Unavailable("this node takes no work of others", hint="its placement.guest_work is false")
        now_s = time.monotonic()
        self._reservations.expire(now_s)
        try:
            reservation = self._reservations.reserve(
                request.key,
                request.memory_bytes,
                request.wall_ms,
                self._truth(),
                self._membership.body(),
                now_s,
            )
        except EdgeError:
            self.refused += 1
            raise
        try:
            fetched = await self.have(request.function, request.sources)
        except BaseException:
            self._reservations.end(reservation.id)
            raise
        left_ms = max(0.0, (reservation.expires_s - time.monotonic()) * 1000)
        return ReserveReply(id=reservation.id, node=self._node_id, expires_ms=left_ms, fetched=fetched)

    async def have(self, ref: FunctionRef, sources: Sequence[str]) -> bool:
        """The function is here, fetched from one of the nodes ``sources`` and verified if it was not; whether it was
        fetched. Raises Refused, Conflict, PeerFailed.
        """
        if self._has(ref):
            self._functions.touch(ref.name)
            return False
        await self._fetch.ensure(
            ref.name,
            ref.sha256,
            canonical_manifest(ref.manifest),
            ref.signature,
            [url for one in sources if (url := self._membership.url_of(one)) is not None],
            unsigned_ok=self._membership.is_on_loopback,
        )
        self._functions.touch(ref.name)
        return True

    def _has(self, ref: FunctionRef) -> bool:
        try:
            return self._functions.get(ref.name).sha256 == ref.sha256
        except NotFound:
            return False

    def release(self, id_: str) -> None:
        """It will not be used."""
        self._reservations.end(id_)

    @contextlib.contextmanager
    def used(self, id_: str) -> Iterator[None]:
        """For as long as what was reserved runs. Raises NotAdmitted where it has expired, or never was."""
        if self._reservations.begin(id_, time.monotonic()) is None:
            raise NotAdmitted(
                f"no reservation {id_[:40]!r} here: it has expired, or is of another life",
                hint="reserve again",
                constraint="reservations",
            )
        try:
            yield
        finally:
            self._reservations.end(id_)

    def _truth(self) -> Any:
        from edgeagent.placement.reservations import Truth

        temperature_c, battery = self._membership.heat_and_battery()
        return Truth(
            active=self._invoker.active,
            concurrency_max=self._concurrency_max,
            waiting=self._functions.queue.waiting,
            waiting_max=self._concurrency_max,
            memory_free_bytes=machine.memory_bytes()["available_bytes"],
            temperature_c=temperature_c,
            battery=battery,
            draining=self._invoker.draining,
        )
