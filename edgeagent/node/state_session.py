"""What one call of a function reads and writes of state.

A call of a run (``buffers``) works on one view of it: what it reads stays what it was for as long as it runs, but for
what it writes itself; its writes are kept here and written as one group at its end, before its output counts. A write
with Flag.NOW, a compare-and-set and a group with versions go to the store at once, after what was kept before them. Any
other call reads and writes at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from edgeagent.model.errors import (
    BadRequest,
    Busy,
    Conflict,
    EdgeError,
    GuestStateRefused,
    Internal,
    NotAllowed,
    TooLarge,
)
from edgeagent.model.run_tag import RunTag
from edgeagent.node.call_marks import CallMarks
from edgeagent.node.state_port import StatePort
from edgeagent.runtime.port import Payload
from edgeagent.state.calls import Done, Group, GroupDone, Listed, Op
from edgeagent.state.entry import Durability, Mode
from edgeagent.state.errors import BadKey, NotDurable, VersionMismatch
from edgeagent.state.guest_layout import HELD, Flag
from edgeagent.state.keys import GROUP_ITEMS_MAX, RUNS, check_key, check_prefix, is_below, resolve

__all__ = ["Cache", "FusionStats", "StepSession", "Value", "Write", "durability_of"]

log = structlog.get_logger("state")

LIST_MAX = 1024
_RUN = "run/"
_READ_HERE_MAX = 64 << 10  # copying more is for another thread


class FusionStats:
    """Counted over all sessions of a node."""

    __slots__ = ("fetched", "groups", "hits", "prefetched", "reads", "written")

    def __init__(self) -> None:
        self.reads = 0  # values that guests asked for
        self.hits = 0  # of these, without a call of the port
        self.fetched = 0  # keys that the port was asked for
        self.prefetched = 0  # of these, before their step began
        self.groups = 0  # that steps wrote at their ends
        self.written = 0  # keys in them


class Value:
    """A value that was read, or will be written. ``version`` "" of one that is not written yet."""

    __slots__ = ("data", "is_final", "version")

    def __init__(self, data: bytes | Payload, version: str = "", *, is_final: bool = False) -> None:
        self.data = data
        self.version = version
        self.is_final = is_final  # written once: it stays what it is

    @property
    def size(self) -> int:
        return len(self.data) if isinstance(self.data, bytes) else self.data.size

    async def read(self) -> bytes:
        if isinstance(self.data, bytes):
            return self.data
        if self.size <= _READ_HERE_MAX:
            return bytes(self.data.read())
        return await asyncio.to_thread(lambda payload: bytes(payload.read()), self.data)


class Write:
    """``value`` None: a deletion."""

    __slots__ = ("durability", "ttl_ms", "value")

    def __init__(self, value: Value | None, durability: Durability, ttl_ms: int = 0) -> None:
        self.value = value
        self.durability = durability
        self.ttl_ms = ttl_ms

    def close(self) -> None:
        if self.value is not None and not isinstance(self.value.data, bytes):
            self.value.data.close()


class Cache:
    """Values that calls of one run have read here, by full key; a later call asks whether they are still the newest."""

    __slots__ = ("_values", "size_bytes")

    def __init__(self) -> None:
        self.size_bytes = 0
        self._values: dict[str, Value] = {}

    def get(self, key: str) -> Value | None:
        return self._values.get(key)

    def keep(self, key: str, value: Value) -> None:
        self.drop(key)
        self._values[key] = value
        self.size_bytes += value.size

    def drop(self, key: str) -> None:
        if (value := self._values.pop(key, None)) is not None:
            self.size_bytes -= value.size

    def clear(self) -> None:
        self._values.clear()
        self.size_bytes = 0


def durability_of(flags: Flag) -> Durability:
    """What a write with these flags waits for."""
    if Flag.GROUND in flags:
        return Durability.GROUND
    return Durability.PEER if Flag.PEER in flags else Durability.LOCAL


class StepSession:
    """Of one call, which asks one thing at a time. ``token`` is what the call has seen, for whoever comes after it."""

    marks: CallMarks | None = None

    def __init__(
        self,
        port: StatePort,
        function: str,
        prefixes: tuple[str, ...],
        run: RunTag,
        cache: Cache,
        stats: FusionStats,
        *,
        wait_ms: float,
        bound_for: Callable[[Sequence[str], Sequence[str]], None] = lambda _nodes, _keys: None,
    ) -> None:
        self.token = run.session
        self.buffers = bool(run.id)
        self._port = port
        self._function = function
        self._prefixes = prefixes
        self._run = run
        self._own = f"{RUNS}{run.id}/" if run.id else ""
        self._cache = cache
        self._stats = stats
        self._wait_ms = wait_ms
        self._bound_for = bound_for
        self._seen: dict[str, Value | None] = {}
        self._writes: dict[str, Write] = {}
        self._is_closed = False

    # -- names ---------------------------------------------------------------------------------------------------------

    def key(self, name: str) -> str:
        """The full key of what a guest says. Raises BadKey, NotAllowed."""
        return self._allowed(resolve(name, self._run.id))

    def prefix(self, name: str) -> str:
        """The same of a prefix."""
        if name.startswith(_RUN):
            if not self._own:
                raise BadKey(f"the prefix {name[:80]!r} is of a run, and this call is of none")
            name = self._own + name.removeprefix(_RUN)
        return self._allowed(check_prefix(name))

    def name(self, key: str) -> str:
        """As the guest says it."""
        return _RUN + key.removeprefix(self._own) if self._own and key.startswith(self._own) else key

    def _allowed(self, key: str) -> str:
        if self._own and key.startswith(self._own):
            return key
        # Whatever a manifest says: runs do not meet.
        if key.startswith(RUNS) or not is_below(key, self._prefixes):
            raise NotAllowed(
                f"{self._function} may not touch the state {key[:80]!r}",
                hint="[state] prefixes of its manifest say what it may",
            )
        return key

    # -- reading -------------------------------------------------------------------------------------------------------

    async def prefetch(self, *, keys_max: int, bytes_max: int) -> None:
        """What this call may read, as far as it is known by name, as one group. Raises EdgeError."""
        wanted = [one for one in self._prefixes if _is_key(one) and not one.startswith((RUNS, _RUN))][
            :keys_max
        ]
        left = bytes_max
        for one in await self._port.list(self._own, "", keys_max - len(wanted)):
            known = self._cache.get(one.key)
            if known is not None and known.is_final:
                self._seen[one.key] = known
            elif one.size_bytes <= left:
                left -= one.size_bytes
                wanted.append(one.key)
        if wanted:
            self._stats.prefetched += len(wanted)
            await self.fetch(wanted)

    async def fetch(self, keys: Sequence[str], prefix: str | None = None) -> list[str]:
        """Read them, and all below ``prefix``, as one group; the keys that were below it. Raises EdgeError."""
        known = {key: value for key in keys if (value := self._cache.get(key)) is not None}
        ops = [Op(op="get", key=key, known=known[key].version if key in known else "") for key in keys]
        done = await self._ask(Group(ops=ops, prefix=prefix, session=self.token))
        self._stats.fetched += len(done.results)
        for one in done.results:
            self._saw(one, known.get(one.key))
        return [one.key for one in done.results[len(ops) :]]

    def _saw(self, done: Done, known: Value | None) -> None:
        value = None
        if done.found:
            value = known if done.unchanged else Value(done.value or b"", done.version)
            if value is None:
                raise Internal(
                    f"the state {done.key[:80]!r} has not changed since a version that was not named"
                )
            value.is_final = done.mode is Mode.ONCE
        self._keep(done.key, value)

    def _keep(self, key: str, value: Value | None) -> None:
        self._seen[key] = value
        if value is None:
            self._cache.drop(key)
        else:
            self._cache.keep(key, value)

    def _forget(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._seen.pop(key, None)

    async def get(self, key: str) -> Value | None:
        """As this call sees it. Raises EdgeError."""
        self._stats.reads += 1
        if (write := self._writes.get(key)) is not None:
            self._stats.hits += 1
            return write.value
        if self.buffers and key in self._seen:
            self._stats.hits += 1
        else:
            await self.fetch([key])
        return self._seen.get(key)

    def seen(self, key: str) -> Value | None:
        """What was fetched or written before, without asking."""
        write = self._writes.get(key)
        return self._seen.get(key) if write is None else write.value

    def held(self) -> Sequence[str]:
        """The keys that wait for the end of the step."""
        return list(self._writes)

    def is_known(self, key: str) -> bool:
        """Whether ``seen`` has the answer."""
        return key in self._writes or (self.buffers and key in self._seen)

    async def version(self, key: str) -> str:
        """Of the value that this call has read, or would read; "" where there is none. Raises EdgeError."""
        if key in self._writes:
            await self.flush()
        if key not in self._seen:
            await self.fetch([key])
        value = self._seen.get(key)
        return "" if value is None else value.version

    async def list(self, prefix: str, after: str) -> tuple[list[Listed], bool]:
        """Keys below ``prefix`` above ``after``, and whether there are more. Raises EdgeError."""
        found = await self._port.list(prefix, after, LIST_MAX)
        more = len(found) >= LIST_MAX
        rows = {one.key: one for one in found}
        for key, write in self._writes.items():
            if not key.startswith(prefix) or key <= after or (more and key > found[-1].key):
                continue
            rows.pop(key, None)
            if write.value is not None:
                rows[key] = Listed(key=key, version="", mode=Mode.LWW, size_bytes=write.value.size)
        return [rows[key] for key in sorted(rows)], more

    # -- writing -------------------------------------------------------------------------------------------------------

    async def write(self, key: str, value: Value | None, flags: Flag, ttl_ms: int = 0) -> int:
        """Put, or delete; how durable it is, or HELD. Raises EdgeError."""
        write = Write(value, durability_of(flags), ttl_ms)
        if self.buffers and Flag.NOW not in flags:
            self.hold(key, write)
            return HELD
        done = await self.through([await self.op(key, write)], write.durability)
        return done.results[0].durability.rank

    def hold(self, key: str, write: Write) -> None:
        """For the end of the step. Raises Busy."""
        if self._is_closed:
            raise Internal("the step has ended")
        if key not in self._writes and len(self._writes) >= GROUP_ITEMS_MAX:
            raise Busy(
                f"a step writes {len(self._writes)} keys at once", hint="write some with EDGE_STATE_NOW"
            )
        if (before := self._writes.pop(key, None)) is not None:
            before.close()
        self._writes[key] = write

    async def op(self, key: str, write: Write, expect: str | None = None) -> Op:
        """The write as the service takes it."""
        epoch = self._run.epoch if self._own and key.startswith(self._own) else 0
        if write.value is None:
            return Op(op="delete", key=key, epoch=epoch, expect=expect)
        value = await write.value.read()
        return Op(op="put", key=key, value=value, epoch=epoch, expect=expect, ttl_ms=write.ttl_ms)

    async def through(
        self, ops: Sequence[Op], durability: Durability = Durability.LOCAL, prefix: str | None = None
    ) -> GroupDone:
        """To the store at once, what was kept before first. Raises EdgeError."""
        await self.flush()
        return await self._write(ops, durability, prefix)

    async def flush(self) -> None:
        """Write what was kept, as one group. Raises EdgeError, and it is kept still."""
        if not self._writes:
            return
        writes = dict(self._writes)
        ops = [await self.op(key, write) for key, write in writes.items()]
        durability = max((write.durability for write in writes.values()), key=lambda one: one.rank)
        await self._write(ops, durability)
        self._stats.groups += 1
        self._stats.written += len(ops)
        for key, write in writes.items():
            del self._writes[key]
            write.close()

    async def _write(self, ops: Sequence[Op], durability: Durability, prefix: str | None = None) -> GroupDone:
        if self._is_closed:
            raise Internal("the step has ended")
        if self._run.following and any(op.op != "get" for op in ops):
            self._bound_for(self._run.following, [op.key for op in ops if op.op != "get"])
        waits = durability is not Durability.LOCAL
        group = Group(
            ops=[*ops],
            prefix=prefix,
            durability=durability,
            deadline_ms=self._wait_ms if waits else 0,
            session=self.token,
        )
        try:
            done = await self._ask(group)
        except EdgeError:
            self._forget([op.key for op in ops])  # whatever is there now, it is to be read again
            raise
        for op, one in zip(ops, done.results, strict=False):
            if op.op == "put":
                self._keep(op.key, Value(op.value or b"", one.version, is_final=one.mode is Mode.ONCE))
            elif op.op == "delete":
                self._keep(op.key, None)
            else:
                self._saw(one, None)
        for one in done.results[len(ops) :]:
            self._saw(one, None)
        return done

    async def _ask(self, group: Group) -> GroupDone:
        done = await self._port.group(group, run=self._run.id, epoch=self._run.epoch)
        if len(done.results) < len(group.ops):
            raise Internal(f"{len(group.ops)} operations on state have {len(done.results)} answers")
        self.token = done.session or self.token
        return done

    # -- the end -------------------------------------------------------------------------------------------------------

    async def commit(self) -> None:
        """The call has succeeded: write what it wrote, all of it or nothing.

        Raises GuestStateRefused where any node would refuse it, and what the service raises.
        """
        try:
            await self.flush()
        except (BadRequest, Conflict, NotDurable, TooLarge, VersionMismatch) as error:
            raise GuestStateRefused(
                f"what {self._function} wrote was not taken: {error.message}",
                hint=error.hint,
                cause=error.slug,
            ) from None

    def close(self) -> None:
        """What is not written by now never is; idempotent."""
        self._is_closed = True
        for write in self._writes.values():
            write.close()
        self._writes.clear()


def _is_key(text: str) -> bool:
    try:
        check_key(text)
    except BadKey:
        return False
    return True
