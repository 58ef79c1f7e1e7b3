"""Reading from other members: one frame a member for all keys of a group, the newest answer wins.

1. Those who should have a key are asked first, all at once: whom the caller's session names, the key's homes, whoever
   gossip says holds its group. Only where none of them has it are others asked.
2. A key that is here already is asked for with its version: the answer to that is short.
3. Values are checked against their hashes; who sends another is left out.
4. Chunks of a value that are here already, or on their way here, are not asked for.
5. Who holds a key and cannot be asked is named, with the time of its return (Behind), instead of "not found".
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

import structlog

from edgeagent.model.errors import EdgeError
from edgeagent.node.state_circle import StateCircle
from edgeagent.state.consistency import wins
from edgeagent.state.entry import Entry
from edgeagent.state.errors import Behind
from edgeagent.state.fetching import BATCH_CHUNKS_MAX, Chunks, ChunksWanted, Fetch, Fetched, Held, read, write
from edgeagent.state.hlc import Version
from edgeagent.state.keys import CHUNK_BYTES

__all__ = ["Asker", "Newer", "StateReader"]

log = structlog.get_logger("state")

# (node, path, body, seconds) -> the reply's body; raises EdgeError
Asker = Callable[[str, str, bytes, float], Awaitable[bytes]]
# (chunks, deadline) -> those of them that are here, by their digests; raises EdgeError
Here = Callable[[Sequence[bytes], float], Awaitable[dict[bytes, bytes]]]


async def _nothing(_chunks: Sequence[bytes], _deadline_s: float) -> dict[bytes, bytes]:
    return {}


class Newer(NamedTuple):
    """An entry that is newer elsewhere, who has it (``where``), and who has an older one (``stale``)."""

    entry: Entry
    where: list[str]
    stale: list[str]


class _Found:
    """The newest entry of a key, and who has it."""

    __slots__ = ("entry", "others", "unsure", "where")

    def __init__(self) -> None:
        self.entry: Entry | None = None
        self.where: list[str] = []
        self.others: list[str] = []  # who have another one
        self.unsure: list[str] = []  # who would have one, and cannot read it now

    def take(self, node: str, held: Held) -> None:
        entry = held.entry
        if self.entry is None or wins(entry, self.entry):
            self.others += self.where
            self.entry, self.where = entry, [node]
        elif entry.version == self.entry.version:
            self.where.append(node)
        else:
            self.others.append(node)


class StateReader:
    """On the event loop's thread."""

    def __init__(self, circle: StateCircle, ask: Asker, *, read_s: float, here: Here = _nothing) -> None:
        self._circle = circle
        self._ask = ask
        self._read_s = read_s
        self._here = here
        self.fetched = 0  # values that came from elsewhere
        self.fetched_bytes = 0

    async def newest(
        self,
        keys: Sequence[str],
        known: Mapping[str, Entry],
        least: Callable[[str], Version],
        *,
        deadline_s: float,
        is_sought: bool = True,
        first: Sequence[str] = (),
        silent: dict[str, list[str]] | None = None,
    ) -> dict[str, Newer]:
        """The entries of keys that are newer elsewhere than ``known``; ``is_sought``: also of those who only might have
        what nobody is known to hold. ``first`` are asked in any case. ``silent`` is told, by key, of those who should
        have it and did not answer.
        """
        found = {key: _Found() for key in keys}
        for key in keys:
            if key in known:
                found[key].entry = known[key]
        plans = {}
        for key in keys:
            owner = known[key].owner if key in known else ""
            plans[key] = self._circle.ranked(key, [owner, least(key).node, *first])
        heard = await self._round({key: plan[0] for key, plan in plans.items()}, found, deadline_s)
        if silent is not None:
            silent.update({key: [one for one in plan[0] if one not in heard] for key, plan in plans.items()})
        if is_sought:
            missing = {
                key: plans[key][1]
                for key, one in found.items()
                if one.entry is None or one.entry.version < least(key)
            }
            await self._round(missing, found, deadline_s)
        if silent is not None:
            for key, one in found.items():
                silent[key] += one.unsure
        return {
            key: Newer(one.entry, one.where, one.others)
            for key, one in found.items()
            if one.entry is not None and one.where and one.entry is not known.get(key)
        }

    async def below(
        self, prefix: str, *, deadline_s: float, limit: int, after: str = "", bare: bool = False
    ) -> list[tuple[str, Held]]:
        """What the members around hold below a prefix, and who."""
        nodes = self._circle.ranked(prefix or "*")
        ask = Fetch(prefix=prefix, after=after, limit=limit, bare=bare)
        answers = await self._all([*nodes[0], *nodes[1]], {}, ask, deadline_s)
        return [(node, held) for node, answer in answers for held in answer.held]

    async def held_by(self, key: str, *, deadline_s: float) -> list[tuple[str, Held, bool]]:
        """Every member that holds the key: (node, what, whether it is on the ground)."""
        ask = Fetch(keys=[key], known=[""], bare=True)
        answers = await self._all(self._circle.reachable(), {}, ask, deadline_s)
        return [(node, held, answer.is_ground) for node, answer in answers for held in answer.held]

    async def entry_at(self, entry: Entry, nodes: Sequence[str], *, deadline_s: float) -> Entry:
        """The same version of an entry, as others hold it. Raises Behind."""
        ask = Fetch(keys=[entry.key], known=[""])
        for _, answer in await self._all(nodes, {}, ask, deadline_s):
            for held in answer.held:
                if held.entry.version == entry.version and held.entry.sha256 == entry.sha256:
                    return held.entry
        raise self.behind(entry.key, nodes)

    async def _round(
        self, plan: Mapping[str, Sequence[str]], found: Mapping[str, _Found], deadline_s: float
    ) -> set[str]:
        """Who has answered."""
        wanted: dict[str, list[str]] = {}
        for key, nodes in plan.items():
            for node in nodes:
                wanted.setdefault(node, []).append(key)
        if not wanted:
            return set()
        asks, heard = {}, set()
        for node, keys in wanted.items():
            entries = [found[key].entry for key in keys]
            asks[node] = Fetch(
                keys=keys, known=["" if one is None else one.version.text() for one in entries]
            )
        for node, answer in await self._all(list(wanted), asks, Fetch(), deadline_s):
            heard.add(node)
            for held in answer.held:
                if held.entry.key in found:
                    found[held.entry.key].take(node, held)
            for key in answer.unsure:
                if key in found:
                    found[key].unsure.append(node)
        return heard

    async def _all(
        self, nodes: Sequence[str], asks: Mapping[str, Fetch], ask: Fetch, deadline_s: float
    ) -> list[tuple[str, Fetched]]:
        """The answers of those who answer in time."""
        left_s = min(self._read_s, deadline_s - asyncio.get_running_loop().time())
        tasks = {node: asyncio.ensure_future(self._one(node, asks.get(node, ask), left_s)) for node in nodes}
        try:
            await asyncio.gather(*tasks.values())
        finally:
            for task in tasks.values():
                task.cancel()
        return [(node, answer) for node, task in tasks.items() if (answer := task.result()) is not None]

    async def _one(self, node: str, ask: Fetch, left_s: float) -> Fetched | None:
        if left_s <= 0:
            return None
        try:
            return read(await self._ask(node, "/v1/state:fetch", write(ask), left_s), Fetched)
        except EdgeError as error:
            log.debug("a member did not say what it holds", node=node, why=error.message)
            return None

    async def value_of(self, entry: Entry, nodes: Sequence[str], *, deadline_s: float) -> bytes:
        """The value of an entry that others have. Raises Behind where none of them sends it whole and sound."""
        here = await self._here(entry.chunks, deadline_s) if entry.chunks else {}
        for node in nodes:
            try:
                value = await self._value_from(entry, node, here, deadline_s)
            except EdgeError as error:
                log.info("a value did not come", key=entry.key, node=node, why=error.message)
                continue
            if len(value) == entry.size_bytes and hashlib.sha256(value).digest() == entry.sha256:
                self.fetched += 1
                self.fetched_bytes += len(value)
                return value
            log.warning("a member sent a value that is not what it said", key=entry.key, node=node)
        raise self.behind(entry.key, nodes)

    async def _value_from(
        self, entry: Entry, node: str, here: Mapping[bytes, bytes], deadline_s: float
    ) -> bytes:
        if entry.inline is not None:
            return entry.inline
        found = dict(here)
        lacking = [sha256 for sha256 in dict.fromkeys(entry.chunks) if sha256 not in found]
        for at in range(0, len(lacking), BATCH_CHUNKS_MAX):
            batch = lacking[at : at + BATCH_CHUNKS_MAX]
            left_s = deadline_s - asyncio.get_running_loop().time()
            if left_s <= 0:
                break
            data = await self._ask(node, "/v1/state:chunks", write(ChunksWanted(sha256=batch)), left_s)
            came = read(data, Chunks).pieces
            if len(came) != len(batch) or any(not 0 < len(one) <= CHUNK_BYTES for one in came):
                break
            found.update(zip(batch, came, strict=True))
        return b"".join(found.get(sha256, b"") for sha256 in entry.chunks)

    def behind(self, key: str, nodes: Sequence[str] = ()) -> Behind:
        """What a caller hears where nobody who can be asked has what it wants."""
        away = self._circle.out_of_sight(key) or list(nodes)
        back_s = self._circle.returns_in_s(away) if away else None
        when = f", back in {back_s:.0f} s" if back_s else ""
        who = ", ".join(one[:12] for one in away[:4]) or "nobody known"
        return Behind(
            f"the key {key[:80]!r} is not to be had now: {who} holds it{when}",
            hint="ask again when it is in contact",
            retry_after_s=min(back_s, 3600.0) if back_s else 1.0,
            holders=away[:8],
        )
