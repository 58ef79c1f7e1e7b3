"""The ground tier: a Redis or Valkey server for what is to be durable on the ground, and for what outgrows the nodes.

A key is one hash there, ``edgeagent:KEY`` with the fields ``entry`` (msgpack, as nodes hold it) and ``value``. A write
is compared with what is there as between nodes (:func:`consistency.merge`), inside WATCH and MULTI, so that two nodes
that write at once cannot undo each other; a group is one transaction.

``ground`` durability is as good as the server's own: set ``appendonly yes`` and ``appendfsync always`` there. Where the
server knows WAITAOF (Redis 7.2, Valkey 7.2), the write is confirmed by it; where it keeps no append-only file, a
warning says so at the first write.

A server that forgets values when it is full (``maxmemory-policy``) is no ground: nothing is written to it. A value that
it refuses, because it is larger than the server takes, waits by itself.

While the server is away, writes wait in a queue that is bounded by bytes and refuses beyond; the values themselves are
on this node's disk. On the event loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import BadConfig, EdgeError, StorageFull, StoreFailed, Unavailable
from edgeagent.state.consistency import merge
from edgeagent.state.entry import Entry
from edgeagent.state.hlc import UNSET_BEFORE_MS, Version

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["GroundStore"]

log = structlog.get_logger("state")

PREFIX = b"edgeagent:"
CONNECT_S = 2.0
REPLY_S = 10.0
PAUSE_S_FIRST, PAUSE_S_MAX = 0.25, 30.0
BATCH = 64
BATCH_BYTES = 8 << 20
DELETED_MS = 30 * 86_400_000  # deletions are remembered there
TRIES_MAX = 8
KEEPS_S = 60.0
CANCEL_S = 1.0

# (key, version) -> what is held here now; None: it is gone
Held = Callable[[str], Awaitable[tuple[Entry, bytes | None] | None]]
Settled = Callable[[str, Version], None]


class GroundStore:
    """``held`` reads what is to be written; ``settled`` hears what is there now. ``queue_bytes`` bounds what waits."""

    def __init__(self, url: str, *, queue_bytes: int, held: Held, settled: Settled) -> None:
        self._url = url
        self._queue_bytes = queue_bytes
        self._held = held
        self._settled = settled
        self._waiting: OrderedDict[str, int] = OrderedDict()  # keys and their bytes
        self._flying: dict[str, int] = {}  # those that are being written
        self._alone = 0  # so many keys are written each by itself: one of them was refused
        self._refused: dict[str, tuple[float, float]] = {}  # not before (the loop's clock); the pause then
        self._looked_s = -1e9  # at what the server does when it is full
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._client: Redis | None = None
        self._confirms: bool | None = None  # whether the server knows WAITAOF
        self.is_away = ""
        self.is_silent = False  # it does not even answer
        self.waiting_bytes = 0
        self.written = 0
        self.refused = 0

    @property
    def waiting(self) -> int:
        """Keys that are not there yet."""
        return len(self._waiting.keys() | self._flying.keys())

    async def start(self) -> None:
        """Raises BadConfig where the URL or the client will not do; a server that is away is waited for."""
        try:
            from redis.asyncio import Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
        except ImportError:
            raise BadConfig(
                "state.ground.url takes the client of Redis", hint="pip install 'edgeagent[ground]'"
            ) from None
        try:
            self._client = Redis.from_url(
                self._url,
                socket_connect_timeout=CONNECT_S,
                socket_timeout=REPLY_S,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
            )
        except (ValueError, TypeError) as error:
            raise BadConfig(
                f"state.ground.url = {self._url!r} cannot be used: {error}", hint="redis://HOST:6379/0"
            ) from None
        self._task = asyncio.get_running_loop().create_task(self._write_on())

    async def close(self) -> None:
        """What waits stays noted where it came from. Idempotent."""
        task, self._task = self._task, None
        while task is not None and not task.done():
            task.cancel()  # again: the client turns a cancellation in the middle of a write into an error of its own
            await asyncio.wait([task], timeout=CANCEL_S)
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(*_errors()):
                await client.aclose()

    # -- writing ---------------------------------------------------------------------------------------------

    def check_room(self, size_bytes: int) -> None:
        """Raises StorageFull where the queue has no room for so much more."""
        if (self._waiting or self._flying) and self.waiting_bytes + size_bytes > self._queue_bytes:
            self.refused += 1
            raise StorageFull(
                f"{self.waiting_bytes} bytes wait for the ground store, which is {self.is_away or 'slow'}",
                hint="state.ground_queue_bytes says how many may",
                retry_after_s=5,
            )

    def put(self, entries: Sequence[Entry]) -> None:
        """Write these soon. Raises StorageFull when the queue has no room: nothing is taken then."""
        self.check_room(sum(_size(one) for one in entries if one.key not in self._waiting))
        self.take_up(entries)

    def take_up(self, entries: Sequence[Entry]) -> None:
        """The same of what has been promised before: without a bound."""
        for one in entries:  # what is being written now may be an older version of it
            self._refused.pop(one.key, None)  # nor need another version of it be refused
            self.waiting_bytes += _size(one) - self._waiting.get(one.key, 0)
            self._waiting[one.key] = _size(one)
        self._more.set()

    async def _write_on(self) -> None:
        pause_s = PAUSE_S_FIRST
        while True:
            self._flying = self._next()
            if not self._flying:
                await self._until_more()
                continue
            try:
                settled = await self._write(list(self._flying))
            except EdgeError as error:
                is_one = self._back(refused=isinstance(error, StoreFailed))
                if not self.is_away:
                    log.warning(
                        "the ground store is away: writes wait", why=error.message, waiting=self.waiting
                    )
                self.is_away, self.is_silent = error.message, not isinstance(error, StoreFailed)
                self._looked_s = -1e9
                if not is_one:  # else it has a pause of its own
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, PAUSE_S_MAX)
                continue
            if self.is_away:
                log.info("the ground store is back", waiting=self.waiting)
            self.is_away, self.is_silent, pause_s = "", False, PAUSE_S_FIRST
            self.waiting_bytes -= sum(self._flying.values())
            for key in self._flying:
                self._refused.pop(key, None)
            self._flying = {}
            for key, version in settled.items():
                self.written += 1
                self._settled(key, version)

    async def _until_more(self) -> None:
        """Something waits that was not refused a moment ago."""
        self._more.clear()
        now_s = asyncio.get_running_loop().time()
        first_s = min((self._refused[key][0] for key in self._waiting), default=None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if first_s is None else max(0.0, first_s - now_s)):
                await self._more.wait()

    def _next(self) -> dict[str, int]:
        now_s = asyncio.get_running_loop().time()
        keys: dict[str, int] = {}
        most = 1 if self._alone else BATCH
        for key, size in self._waiting.items():
            if len(keys) >= most or sum(keys.values()) >= BATCH_BYTES:
                break
            again_s, _ = self._refused.get(key, (0.0, 0.0))
            if again_s and (now_s < again_s or keys):
                continue  # by itself
            keys[key] = size
            if again_s:
                break
        for key in keys:
            del self._waiting[key]
        if keys:
            self._alone = max(0, self._alone - 1)
        return keys

    def _back(self, *, refused: bool) -> bool:
        """What could not be written waits again; of several, one that is refused is not to hold the others. Whether it
        was a single one that was refused.
        """
        is_one = refused and len(self._flying) == 1
        if refused:
            self._alone = len(self._flying) if len(self._flying) > 1 else self._alone
        for key, size in reversed(self._flying.items()):
            if is_one:
                _, pause_s = self._refused.get(key, (0.0, PAUSE_S_FIRST / 2))
                pause_s = min(2 * pause_s, PAUSE_S_MAX)
                self._refused[key] = asyncio.get_running_loop().time() + pause_s, pause_s
            if key in self._waiting:
                self.waiting_bytes -= size  # a later version of it waits
                continue
            self._waiting[key] = size
            self._waiting.move_to_end(key, last=is_one)
        self._flying = {}
        return is_one

    async def _write(self, keys: Sequence[str]) -> Mapping[str, Version]:
        """What is there afterwards. Raises Unavailable, StoreFailed."""
        found = {}
        for key in keys:
            try:
                held = await self._held(key)
            except EdgeError as error:  # a damaged value is not spread
                log.warning("a value does not go to the ground", key=key, why=error.message)
                continue
            if held is not None:
                found[key] = held
        return await self._typed(self._merge_in(found)) if found else {}

    async def _merge_in(self, found: Mapping[str, tuple[Entry, bytes | None]]) -> dict[str, Version]:
        from redis.exceptions import WatchError

        client = self._open()
        await self._check_keeps(client)
        names = {key: PREFIX + key.encode() for key in found}
        for _ in range(TRIES_MAX):
            pipe: Any
            async with client.pipeline(transaction=True) as pipe:
                await pipe.watch(*names.values())
                there = [_entry(await pipe.hget(name, "entry")) for name in names.values()]
                pipe.multi()
                after: dict[str, Version] = {}
                for (key, name), before in zip(names.items(), there, strict=True):
                    entry, value = found[key]
                    merged = merge(before, entry)
                    after[key] = merged.entry.version
                    if merged.changed:
                        _put(pipe, name, entry, value)
                try:
                    await pipe.execute()
                except WatchError as error:
                    if "occurred while watching" in str(error):
                        # The client's word for a connection that ended: of a value that is too large for the server.
                        raise StoreFailed("the ground store hung up while it was written") from None
                    continue
            await self._confirm(client)
            return after
        raise StoreFailed(f"the ground store changed {TRIES_MAX} times while it was written", retry_after_s=1)

    async def _check_keeps(self, client: Any) -> None:
        """Raises StoreFailed where the server would forget what it has, to make room."""
        from redis.exceptions import ResponseError

        now_s = asyncio.get_running_loop().time()
        if now_s - self._looked_s < KEEPS_S:
            return
        try:
            told = await client.info("memory")
        except ResponseError:  # it may not be asked
            told = {}
        policy = str(told.get("maxmemory_policy", "noeviction"))
        if int(told.get("maxmemory", 0)) and policy != "noeviction":
            raise StoreFailed(
                f"the ground store forgets values when it is full: its maxmemory-policy is {policy}",
                hint="set noeviction there",
            )
        self._looked_s = now_s

    async def _confirm(self, client: Any) -> None:
        """Until the write is on the server's disk, where it can say so."""
        from redis.exceptions import ResponseError

        if self._confirms is False:
            return
        try:
            done = await client.execute_command("WAITAOF", 1, 0, int(REPLY_S * 1000))
        except ResponseError as error:
            self._confirms = False
            log.warning(
                "the ground store does not confirm its disk: it is as durable as it is configured",
                why=str(error)[:200],
            )
            return
        self._confirms = True
        if not done or int(done[0]) < 1:
            raise StoreFailed("the ground store did not write to its disk in time")

    # -- reading ---------------------------------------------------------------------------------------------

    async def get(self, key: str) -> tuple[Entry, bytes | None] | None:
        """What is there, tombstones too. Raises Unavailable, and StoreFailed, also for what is damaged there."""
        raw: list[bytes | None] = await self._typed(
            self._open().hmget(PREFIX + key.encode(), ["entry", "value"])
        )
        entry, value = _entry(raw[0]), raw[1]
        if entry is None or entry.deleted:
            return None if entry is None else (entry, None)
        if value is None or await asyncio.to_thread(lambda: hashlib.sha256(value).digest()) != entry.sha256:
            raise StoreFailed(f"the ground store's value of {key!r} is not what its hash says")
        return (entry if entry.chunks else msgspec.structs.replace(entry, inline=value)), value

    def _open(self) -> Redis:
        if self._client is None:
            raise Unavailable("the ground store is closed")
        return self._client

    async def _typed(self, work: Awaitable[Any]) -> Any:
        from redis.exceptions import ConnectionError as Away
        from redis.exceptions import RedisError
        from redis.exceptions import TimeoutError as Late

        try:
            return await work
        except (Away, Late, OSError, TimeoutError) as error:
            raise Unavailable(
                f"the ground store does not answer: {str(error)[:200] or type(error).__name__}",
                hint="is the server of state.ground.url up?",
                retry_after_s=5,
            ) from None
        except RedisError as error:
            raise StoreFailed(f"the ground store refused: {str(error)[:200]}") from None


def _put(pipe: Any, name: bytes, entry: Entry, value: bytes | None) -> None:
    pipe.delete(name)
    fields = {"entry": msgspec.msgpack.encode(msgspec.structs.replace(entry, inline=None))}
    if value is not None and not entry.deleted:
        fields["value"] = value
    pipe.hset(name, mapping=fields)
    if entry.deleted:
        pipe.pexpire(name, DELETED_MS)
    elif entry.expires_ms >= UNSET_BEFORE_MS:
        pipe.pexpireat(name, entry.expires_ms)
    elif entry.expires_ms:  # by a clock that was not set
        pipe.pexpire(name, entry.ttl_ms)


def _size(entry: Entry) -> int:
    return entry.size_bytes + len(entry.key)


def _entry(raw: bytes | None) -> Entry | None:
    if raw is None:
        return None
    try:
        return msgspec.msgpack.decode(raw, type=Entry)
    except UNDECODABLE:
        raise StoreFailed("the ground store holds something else under a key of ours") from None


def _errors() -> tuple[type[Exception], ...]:
    try:
        from redis.exceptions import RedisError
    except ImportError:
        return (OSError,)
    return (OSError, RedisError)
