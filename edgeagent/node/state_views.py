"""What is held where: listings, holders of a key, and the answers to other nodes that ask what is here."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import msgspec

from edgeagent.model.errors import BadRequest, EdgeError, NotFound
from edgeagent.node.state_circle import StateCircle
from edgeagent.node.state_ground import GROUND_STORE, bare_entry
from edgeagent.node.state_reader import StateReader
from edgeagent.state.calls import Aside, Listed, Where
from edgeagent.state.consistency import wins
from edgeagent.state.entry import Entry, Mode
from edgeagent.state.errors import DamagedValue
from edgeagent.state.fetching import FETCH_BYTES_MAX, Chunks, ChunksWanted, Fetch, Fetched, Held
from edgeagent.state.hlc import Version
from edgeagent.state.keys import GROUP_ITEMS_MAX, check_key, check_prefix

if TYPE_CHECKING:
    from edgeagent.node.state_ground import StateGround
    from edgeagent.state.keystore import KeyStore

__all__ = ["StateViews"]

_PATIENCE_S = 30.0


class StateViews:
    """On the event loop's thread."""

    def __init__(
        self, store: KeyStore, circle: StateCircle, reader: StateReader, *, node_id: str, is_ground: bool
    ) -> None:
        self.store = store
        self.circle = circle
        self.reader = reader
        self.node_id = node_id
        self._is_ground = is_ground
        self.ground: StateGround | None = None

    async def listed(self, prefix: str, after: str, limit: int, *, here_only: bool = False) -> list[Listed]:
        """Keys below a prefix in their order, behind ``after``: here and, unless ``here_only``, at other members."""
        check_prefix(prefix)
        if after:
            check_key(after)
        own = {entry.key: entry for entry in await self._below(prefix, after, limit, here_only=here_only)}
        newest = dict(own)
        if not here_only and self.circle.reachable():
            deadline_s = asyncio.get_running_loop().time() + _PATIENCE_S
            there = await self.reader.below(
                prefix, deadline_s=deadline_s, limit=min(limit, GROUP_ITEMS_MAX), after=after, bare=True
            )
            for _, held in there:
                key = held.entry.key
                if key.startswith(prefix) and (key not in newest or wins(held.entry, newest[key])):
                    newest[key] = held.entry
        now_ms = _utc_ms()
        with contextlib.suppress(DamagedValue):  # of what is damaged here, others' word counts
            for one in await self.store.held([key for key in newest if key not in own]):
                if not wins(newest[one.key], one):  # a deletion that others have not heard of
                    newest[one.key] = one
        return [
            Listed(
                key=one.key,
                version=one.version.text(),
                mode=one.mode,
                size_bytes=one.size_bytes,
                expires_ms=one.expires_ms,
            )
            for _, one in sorted(newest.items())
            if one.is_there(now_ms)
        ][:limit]

    async def _below(self, prefix: str, after: str, limit: int, *, here_only: bool = False) -> list[Entry]:
        """What is held here and, unless ``here_only``, what was moved to the ground store, in their order."""
        entries = await self.store.list(prefix, after, limit)
        if self.ground is None or here_only:
            return entries
        moved = await self.ground.moved_below(prefix, after, limit)
        held = {one.key for one in await self.store.held([one.key for one in moved])}
        return sorted([*entries, *(one for one in moved if one.key not in held)], key=lambda one: one.key)[
            :limit
        ]

    async def where(self, key: str) -> list[Where]:
        """The nodes that hold a key, the freshest first."""
        check_key(key)
        now_ms = _utc_ms()
        found = []
        here = await self.store.look(key)
        rows = [] if here is None else [(self.node_id, await self._held(here), self._is_ground)]
        deadline_s = asyncio.get_running_loop().time() + _PATIENCE_S
        rows += await self.reader.held_by(key, deadline_s=deadline_s)
        if self.ground is not None:
            there, moved = await self.ground.seek([key])
            known = there[key][0] if there else moved.get(key)
            if known is not None:
                rows.append((GROUND_STORE, Held(entry=bare_entry(known)), True))
        for node, held, is_ground in sorted(rows, key=lambda row: row[1].entry.version, reverse=True):
            if held.entry.is_there(now_ms):
                found.append(
                    Where(
                        node=node,
                        version=held.entry.version.text(),
                        age_ms=max(0, now_ms - held.entry.version.wall_ms),
                        is_ground=is_ground,
                        aside=held.aside,
                    )
                )
        return found

    async def asides(self, key: str) -> list[Aside]:
        """Values of a key that lost a conflict and are kept here."""
        return [
            Aside(
                version=one.version.text(),
                mode=one.mode,
                size_bytes=one.size_bytes,
                epoch=one.epoch,
                owner=one.owner,
            )
            for one in await self.store.list_aside(check_key(key))
        ]

    async def aside_value(self, key: str, version: Version) -> bytes:
        """Raises NotFound, DamagedValue."""
        for one in await self.store.list_aside(check_key(key)):
            if one.version == version:
                return await self.store.value_of(one)
        raise _no_aside(key, version)

    async def drop_aside(self, key: str, version: Version) -> None:
        """Forget one for good. Raises NotFound and what the store raises."""
        if not await self.store.drop_aside(check_key(key), version):
            raise _no_aside(key, version)

    # -- for other nodes -------------------------------------------------------------------------------------

    async def fetch(self, asked: Fetch) -> Fetched:
        """What is held here of what another node asks for. Raises BadRequest."""
        if asked.known and len(asked.known) != len(asked.keys):
            raise BadRequest("a fetch with as many versions as keys, or with none")
        if asked.prefix is not None:
            entries = await self._below(check_prefix(asked.prefix), asked.after, asked.limit)
            return Fetched(held=[Held(entry=bare_entry(one)) for one in entries], is_ground=self._is_ground)
        unsure: list[str] = []
        if self.ground is not None:
            here = {entry.key for entry in await self.store.held(asked.keys)}
            unsure = await self.ground.bring([key for key in asked.keys if key not in here])
        held, size = [], 0
        for at, key in enumerate(asked.keys):
            entry = await self.store.look(check_key(key))
            if entry is None:
                continue
            same = bool(asked.known) and asked.known[at] == entry.version.text()
            if same or asked.bare:
                held.append(msgspec.structs.replace(await self._held(entry), same=same))
                continue
            size += len(entry.inline or b"")
            if size > FETCH_BYTES_MAX:
                return Fetched(held=held, more=True, is_ground=self._is_ground, unsure=unsure)
            held.append(Held(entry=entry))
        return Fetched(held=held, is_ground=self._is_ground, unsure=unsure)

    async def chunks(self, asked: ChunksWanted) -> Chunks:
        """Chunks that another node asks for."""
        pieces = []
        for sha256 in asked.sha256:
            try:
                pieces.append(await self.store.read_chunk(sha256))
            except EdgeError:  # not here, or damaged: others have it
                pieces.append(b"")
        return Chunks(pieces=pieces)

    async def _held(self, entry: Entry) -> Held:
        aside = 0 if entry.mode is Mode.LWW else len(await self.store.list_aside(entry.key))
        return Held(entry=bare_entry(entry), aside=aside)


def _no_aside(key: str, version: Version) -> NotFound:
    return NotFound(
        f"no value of {key[:200]!r} with the version {version.text()} is set aside here",
        hint="edgeagent state where says which nodes keep some",
    )


def _utc_ms() -> int:
    return int(time.time() * 1000)
