"""State for everybody who asks this node: guests, clients, other nodes. One door, :meth:`StateService.group`.

1. A group is answered as if nothing came between: its gets see what was there before its writes, what is below its
   prefix what is there after them, and its writes happen all or not at all.
2. A write is on this node's disk before it is answered. What else the caller wants (``peer``, ``ground``) is waited for
   until its deadline; whatever it wants, copies go to other members behind the scenes.
3. A read is served from here where that is sure to be right: a value that is written once, a key whose home or owner
   this node is and of which nobody who was out of contact may know more (it has compared with all that can be asked).
   Else those who would know better are asked, all that can be asked where the caller wants more than ``local``; where
   nobody answers, what is here is told, unless the caller's session has seen more. A copy here or at a home that turns
   out to be old is brought up to date behind the scenes.
   A node that has just begun waits a moment to hear who is there.
4. What a ``once`` or ``owner`` key, or a condition, depends on is looked for elsewhere before it is written; who of
   several writers is first, one node decides (:mod:`edgeagent.node.state_decider`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec
import structlog

from edgeagent.model.errors import BadRequest, EdgeError, TooLarge
from edgeagent.node.state_decider import StateDecider
from edgeagent.node.state_ground import GROUND_STORE, adopt
from edgeagent.node.state_reader import Asker, Newer
from edgeagent.node.state_views import StateViews
from edgeagent.state.calls import Done, Group, GroupDone, Op
from edgeagent.state.entry import Durability, Entry, Mode
from edgeagent.state.errors import DamagedValue, Fenced, NotDurable
from edgeagent.state.hlc import NONE, SKEW_MS_MAX, Version, read_version
from edgeagent.state.keys import GROUP_ITEMS_MAX, RUNS, check_prefix, resolve, resolve_prefix
from edgeagent.state.keystore_types import Written
from edgeagent.state.session import Session, read_session

__all__ = ["Replicas", "StateService", "modes_of"]

log = structlog.get_logger("state")

PATIENCE_S = 30.0  # of a caller that says nothing of it
PATIENCE_S_MAX = 86_400.0
_ON_THE_WAY_MS = 2_000


class Replicas(Protocol):
    """Copies at other members (:mod:`edgeagent.node.state_replicas`)."""

    def check_room(self, size_bytes: int, wanted: Durability) -> None: ...
    def wrote(self, written: Sequence[Written], wanted: Durability) -> None: ...
    def reached(self, key: str, version: Version) -> Durability: ...
    def unsettled(self) -> list[str]: ...
    def push(self, entries: Sequence[Entry], node: str) -> None: ...
    async def wait(self, entries: Sequence[Entry], wanted: Durability, deadline_s: float) -> Durability: ...


def modes_of(once: str, owner: str) -> Callable[[str], Mode]:
    """What the configuration says of keys by their beginnings; ``runs/`` is written once. Raises BadKey."""
    prefixes = {
        mode: tuple(check_prefix(one.strip()) for one in text.split(",") if one.strip())
        for mode, text in ((Mode.ONCE, "runs/," + once), (Mode.OWNER, owner))
    }

    def mode_of(key: str) -> Mode:
        for mode, those in prefixes.items():
            if those and key.startswith(those):
                return mode
        return Mode.LWW

    return mode_of


class StateService:
    """On the event loop's thread."""

    def __init__(
        self,
        views: StateViews,
        replicas: Replicas,
        *,
        ask: Asker,
        mode_of: Callable[[str], Mode],
        value_bytes_max: int,
        run_ttl_ms: int,
    ) -> None:
        self.views = views
        self.store = views.store
        self.circle = views.circle
        self.reader = views.reader
        self.replicas = replicas
        self._node_id = views.node_id
        self.decider = StateDecider(views, ask, mode_of)
        self._mode_of = mode_of
        self._value_bytes_max = value_bytes_max
        self._run_ttl_ms = run_ttl_ms
        self._adopting: set[asyncio.Task[None]] = set()
        self._shown = NONE  # the latest version of another node that a reader was told here
        self.reads = 0
        self.local_reads = 0  # answered without asking anybody
        self.writes = 0
        self.on_damage: Callable[[str, bytes], None] = lambda key, chunk: None

    # -- the door --------------------------------------------------------------------------------------------

    async def group(self, wanted: Group, *, run: str = "", epoch: int = 0) -> GroupDone:
        """All or nothing. Results are in the order of the operations, those of ``prefix`` behind them.

        ``run`` and ``epoch`` are of the run that the caller belongs to. Raises BadKey, BadRequest, TooLarge,
        StorageFull, VersionMismatch, KeyTaken, Fenced, Behind, NotDurable.
        """
        session = read_session(wanted.session)
        ops = [self._checked(op, run, epoch, named=wanted.decide) for op in wanted.ops]
        patience_s = min(wanted.deadline_ms / 1000, PATIENCE_S_MAX) or PATIENCE_S
        deadline_s = asyncio.get_running_loop().time() + patience_s
        writes = [op for op in ops if op.op != "get"]
        if len(writes) > 1 and len({op.key for op in writes}) < len(writes):
            raise BadRequest("a group writes a key twice", hint="which of the two is to stay?")
        keys: list[str] = []
        done: dict[str, Done] = {}
        if len(writes) < len(ops):
            gets = [op for op in ops if op.op == "get"]
            keys = list(dict.fromkeys(op.key for op in gets))
            known = {op.key: op.known for op in gets if op.known}
            done = await self._get(keys, known, session, deadline_s, wanted)
        durability = Durability.LOCAL
        wrote: dict[str, Done] = {}
        if writes:
            wrote, durability = await self._write(writes, wanted, session, deadline_s, run)
        results = [done[op.key] if op.op == "get" else wrote[op.key] for op in ops]
        if wanted.prefix is not None:
            prefix = resolve_prefix(wanted.prefix, run)
            results += await self._below(prefix, set(keys), session, deadline_s, wanted)
        return GroupDone(results=results, durability=durability, session=session.text())

    async def _below(
        self, prefix: str, known: set[str], session: Session, deadline_s: float, wanted: Group
    ) -> list[Done]:
        found = await self.views.listed(prefix, "", GROUP_ITEMS_MAX, here_only=wanted.here_only)
        keys = [one.key for one in found if one.key not in known]
        done = await self._get(keys, {}, session, deadline_s, wanted) if keys else {}
        return [done[key] for key in keys if done[key].found]

    def _checked(self, op: Op, run: str, epoch: int, *, named: bool) -> Op:
        key = resolve(op.key, run)
        value = op.value
        if op.text is not None:
            if value is not None:
                raise BadRequest(f"the operation on {key[:80]!r} has both value and text")
            value = op.text.encode()
        if (op.op == "put") != (value is not None):
            raise BadRequest(f"a put has a value, a get and a delete have none: {op.op} {key[:80]!r}")
        if value is not None and len(value) > self._value_bytes_max:
            raise TooLarge(
                f"the value of {key[:80]!r} has {len(value)} bytes, at most {self._value_bytes_max}"
            )
        if op.expect:
            read_version(op.expect)
        if key.startswith(RUNS):
            ttl_ms, epoch = op.ttl_ms or self._run_ttl_ms, op.epoch or epoch
        elif key == op.key and op.text is None and not op.owner:
            return op  # it says already what it means
        else:
            ttl_ms, epoch = op.ttl_ms, op.epoch
        return msgspec.structs.replace(
            op,
            key=key,
            value=value,
            text=None,
            epoch=epoch,
            ttl_ms=ttl_ms,
            owner=op.owner if named else "",  # else it is who is asked
        )

    # -- reading ---------------------------------------------------------------------------------------------

    async def _get(
        self,
        keys: Sequence[str],
        known: Mapping[str, str],
        session: Session,
        deadline_s: float,
        wanted: Group,
    ) -> dict[str, Done]:
        self.reads += len(keys)
        damaged: dict[str, DamagedValue] = {}
        here = await self._here(keys, damaged)
        if not wanted.here_only and self.circle.is_gathering():
            is_final = all(key in here and here[key][0].mode is Mode.ONCE for key in keys)
            if not is_final:
                await self.circle.gathered(deadline_s)
        doubtful: Sequence[str] = ()
        unsettled: Sequence[str] = ()
        if not wanted.here_only:
            # That a key is not the newest here is looked at whatever its mode, where a caller asks for others' word.
            thorough = wanted.durability is not Durability.LOCAL
            unsettled = self.circle.reachable() if thorough else self.replicas.unsettled()
            is_sure = not unsettled
            doubtful = [
                key
                for key in keys
                if thorough or self._is_doubtful(key, here.get(key), session, is_sure=is_sure)
            ]
        newer: dict[str, Newer] = {}
        silent: dict[str, list[str]] = {}
        asked = 0
        if doubtful and self.circle.reachable():
            held = {key: here[key][0] for key in doubtful if key in here}
            newer = await self.reader.newest(
                doubtful, held, session.least, deadline_s=deadline_s, first=unsettled, silent=silent
            )
            asked = len(doubtful)
        self.local_reads += len(keys) - asked
        found = dict(here)
        for key, one in newer.items():
            value = await self._from_others(one, known.get(key, ""), deadline_s)
            found[key] = one.entry, value
            self._show(one.entry.version)
            self._repair(one, value, is_held=key in here)
        found |= await self._from_ground(doubtful, found, session, wanted, silent)
        done = {}
        for key in keys:
            seen, value = found.get(key) or (None, None)
            unsure = silent.get(key) or (() if seen or wanted.here_only else self.circle.unheard())
            if seen is None and unsure:  # that there is none, nobody can say
                raise self.reader.behind(key, unsure)
            if seen is None and key in damaged:  # there is one, and nobody has it sound
                raise damaged[key]
            done[key] = self._done(key, seen, value, known.get(key, ""), session)
        return done

    def _show(self, version: Version) -> None:
        # What is written here after it was shown is above it, also where this node's clock is behind. A clock that is
        # too far ahead is nobody's measure.
        if version.wall_ms <= self._utc_ms() + SKEW_MS_MAX:
            self._shown = max(self._shown, version)

    def _repair(self, newer: Newer, value: bytes | None, *, is_held: bool) -> None:
        """What is written once never changes: the next one finds it here. Of the rest, copies that are old go."""
        entry = newer.entry
        is_there = entry.is_there(self._utc_ms())
        if is_there and value is None:
            return  # the caller has it
        age_ms = self._utc_ms() - entry.version.wall_ms
        # What was written a moment ago is on its way by itself.
        homes = self.circle.homes_of(entry.key) if age_ms > _ON_THE_WAY_MS else ()
        stale = [node for node in newer.stale if node in homes]
        if stale or is_held or (is_there and entry.mode is Mode.ONCE):
            self._adopt_soon(entry, value, stale)

    async def _from_ground(
        self,
        doubtful: Sequence[str],
        found: Mapping[str, tuple[Entry, bytes | None]],
        session: Session,
        wanted: Group,
        silent: dict[str, list[str]],
    ) -> dict[str, tuple[Entry, bytes | None]]:
        """What no member has, or nothing as late as the session has seen. ``silent`` is told of what is there and
        cannot be had.
        """
        ground = self.views.ground
        if ground is None:
            return {}
        every = wanted.durability is Durability.GROUND
        lacking = [
            key for key in doubtful if every or key not in found or found[key][0].version < session.least(key)
        ]
        there, moved = await ground.seek(lacking)
        for key in moved:
            silent[key] = [*silent.get(key, ()), GROUND_STORE]
        for entry, value in there.values():
            if entry.mode is Mode.ONCE and value is not None and entry.is_there(self._utc_ms()):
                self._adopt_soon(entry, value)
        return {
            key: one
            for key, one in there.items()
            if key not in found or one[0].version > found[key][0].version
        }

    async def _here(
        self, keys: Sequence[str], damaged: dict[str, DamagedValue]
    ) -> dict[str, tuple[Entry, bytes | None]]:
        """What is held here, deletions too; a value that is ``damaged`` counts as none: others have it."""
        found: dict[str, tuple[Entry, bytes | None]] = {}
        large: list[Entry] = []
        for entry, inline in await self._sound(keys, damaged):
            found[entry.key] = (entry, inline)
            if entry.chunks:
                large.append(entry)
        for entry, value in zip(large, await asyncio.gather(*map(self._whole, large)), strict=True):
            if isinstance(value, DamagedValue):
                damaged[entry.key] = value
                del found[entry.key]
            else:
                found[entry.key] = (entry, value)
        for key in keys:
            try:
                gone = None if key in found else await self.store.look(key)
            except DamagedValue as error:
                damaged[key] = error
                continue
            if gone is not None and not gone.is_there(self._utc_ms()):
                found[key] = (gone, None)
        for key, why in damaged.items():
            self._is_damaged(key, why)
        return found

    async def _sound(
        self, keys: Sequence[str], damaged: dict[str, DamagedValue]
    ) -> list[tuple[Entry, bytes | None]]:
        try:
            return await self.store.get_many(keys, None)
        except DamagedValue as error:
            if len(keys) == 1:
                damaged[keys[0]] = error
                return []
        return [one for key in keys for one in await self._sound([key], damaged)]

    def _is_damaged(self, key: str, error: DamagedValue) -> None:
        log.warning("a value is damaged on this disk", key=key, why=error.message)
        self.on_damage(key, bytes.fromhex(str(error.details.get("chunk", ""))))

    async def _whole(self, entry: Entry) -> bytes | DamagedValue:
        try:
            got = await self.store.get(entry.key)  # through the cache
            if got is not None and got[0].version == entry.version:
                return got[1]
            return await self.store.value_of(entry)
        except DamagedValue as error:
            return error

    def _is_doubtful(
        self, key: str, held: tuple[Entry, bytes | None] | None, session: Session, *, is_sure: bool
    ) -> bool:
        if held is None or held[0].version < session.least(key):
            return True
        entry = held[0]
        if entry.mode is Mode.ONCE:
            return False
        if entry.mode is Mode.OWNER:
            return not is_sure or entry.owner != self._node_id
        return not is_sure or self.circle.homes_of(key)[0] != self._node_id

    async def _from_others(self, newer: Newer, known: str, deadline_s: float) -> bytes | None:
        entry = newer.entry
        if not entry.is_there(self._utc_ms()) or entry.version.text() == known:
            return None
        return await self.reader.value_of(entry, newer.where, deadline_s=deadline_s)

    def _done(self, key: str, entry: Entry | None, value: bytes | None, known: str, session: Session) -> Done:
        least = session.least(key)
        # Of a key that is written once another value may be left than the one that was seen: an earlier one.
        if entry is None or (entry.version < least and entry.mode is not Mode.ONCE):
            if least > NONE or self.circle.out_of_sight(key):
                raise self.reader.behind(key, [least.node] if least.node else [])
            return Done(key=key, found=False)
        session.saw(key, entry.version)
        version = entry.version.text()
        if not entry.is_there(self._utc_ms()):
            return Done(key=key, found=False, version=version, mode=entry.mode)
        same = bool(known) and version == known
        return Done(
            key=key,
            found=True,
            version=version,
            mode=entry.mode,
            size_bytes=entry.size_bytes,
            durability=self.replicas.reached(key, entry.version),
            unchanged=same,
            value=None if same else value,
        )

    def _adopt_soon(self, entry: Entry, value: bytes | None, stale: Sequence[str] = ()) -> None:
        async def adopt() -> None:
            try:
                await self._adopt(entry, value)
                for node in stale:
                    self.replicas.push([entry], node)
            except EdgeError as error:  # it is a copy for the next reader, no more
                log.info("a value was not kept here", key=entry.key, why=error.message)

        task = asyncio.get_running_loop().create_task(adopt())
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    async def _adopt(self, entry: Entry, value: bytes | None) -> None:
        await adopt(self.store, entry, value)
        self.circle.holds([entry.key])

    # -- writing ---------------------------------------------------------------------------------------------

    async def _write(
        self, writes: Sequence[Op], wanted: Group, session: Session, deadline_s: float, run: str
    ) -> tuple[dict[str, Done], Durability]:
        decider = self.decider
        if self.circle.is_gathering() and not wanted.here_only and any(map(decider.depends, writes)):
            await self.circle.gathered(deadline_s)
        if not wanted.here_only and (self.circle.reachable() or self.views.ground is not None):
            if not wanted.decide and (home := await decider.home_of(writes, run, session, deadline_s)):
                return await decider.at(home, writes, wanted, session, deadline_s, decide=True)
            await self._look_before(writes, session, deadline_s)
        if wanted.durability is Durability.GROUND:
            self.replicas.check_room(sum(len(op.value or b"") for op in writes), wanted.durability)
        after = self._shown
        if wanted.session:
            after = max(after, *(session.least(op.key) for op in writes))
        try:
            written = await self.store.write(writes, self._mode_of, after=after)
        except Fenced as error:
            owner = str(error.details.get("owner", ""))
            if wanted.here_only or owner == self._node_id or owner not in self.circle.reachable():
                raise
            return await decider.at(owner, writes, wanted, session, deadline_s, decide=False)
        self.writes += len(writes)
        self.circle.holds(op.key for op in writes)
        self.replicas.wrote(written, wanted.durability)
        reached = Durability.LOCAL
        if wanted.durability is not Durability.LOCAL:
            entries = [one.entry for one in written if one.entry is not None]
            reached = await self._until_durable(entries, wanted.durability, deadline_s)
        done = {}
        for one in written:
            key, entry = one.op.key, one.entry
            if entry is None:
                done[key] = Done(key=key, found=one.found, durability=reached)
                continue
            session.saw(key, entry.version)
            done[key] = Done(
                key=key,
                found=one.found,
                version=entry.version.text(),
                mode=entry.mode,
                size_bytes=entry.size_bytes,
                durability=reached,
            )
        return done, reached

    async def _look_before(self, writes: Sequence[Op], session: Session, deadline_s: float) -> None:
        """What conditions depend on is brought here first, where anybody has it."""
        asked = [op for op in writes if self.decider.depends(op)]
        held = await self.store.held([op.key for op in asked]) if asked else []
        known = {entry.key: entry for entry in held}
        for entry, value in await self.decider.newer(asked, known, session, deadline_s):
            await self._adopt(entry, value)

    async def _until_durable(
        self, entries: Sequence[Entry], wanted: Durability, deadline_s: float
    ) -> Durability:
        reached = await self.replicas.wait(entries, wanted, deadline_s)
        if reached.rank < wanted.rank:
            raise NotDurable(
                f"it is on this node's disk, and not {wanted.value}-durable in time",
                hint="it goes on to other members as soon as they can be reached; ask for it with a longer deadline",
                durability=reached.value,
                versions={entry.key: entry.version.text() for entry in entries[:64]},
            )
        return reached

    async def close(self) -> None:
        """Idempotent."""
        for task in list(self._adopting):
            task.cancel()
        await asyncio.gather(*self._adopting, return_exceptions=True)

    @staticmethod
    def _utc_ms() -> int:
        return int(time.time() * 1000)
