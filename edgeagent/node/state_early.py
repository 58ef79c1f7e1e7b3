"""A step's group travels while it is written: its chunks go to the node of the next step beside its own disk's writing.

1. The group is offered as soon as its values have their hashes, under a version that is not its own yet. Nothing of it
   can be read there: chunks that no entry names are kept for a while.
2. When the group is on this disk, its entries follow, all in one request: the other node writes them in one transaction
   after the same checks as ever. Where the write fails here, nothing follows, and the chunks there go.
3. Nobody waits for it, and it answers for nothing: what is owed to others is as it was without it, and then finds that
   nothing is missing there.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
import structlog

from edgeagent.model.errors import EdgeError
from edgeagent.state.desk import has_bit
from edgeagent.state.entry import chunks_of
from edgeagent.state.errors import BadTransfer
from edgeagent.state.hlc import Version
from edgeagent.state.keys import RUNS, group_of
from edgeagent.state.keystore_types import Written
from edgeagent.state.keystore_writes import Wanted
from edgeagent.state.messages import Ack, Chunks, CommitRequest, Custody, Have, Message, Offer, Part
from edgeagent.state.packing import level_for
from edgeagent.state.wire import ITEMS_MAX, decode, encode, is_heavy

__all__ = ["StateEarly"]

log = structlog.get_logger("state")

T = TypeVar("T", Have, Ack, Custody)

FLYING_BYTES_MAX = 64 << 20  # of all groups under way
GROUPS_PER_NODE_MAX = 4  # half of the offers that a node takes from another one
INLINE_BYTES_MAX = 1 << 20  # of small values, which follow with the entries
_MESSAGE_BYTES = 1 << 20
_WINDOW = 2  # messages of chunks under way at once, of a group
_KEYS_MAX = 4096
_RUNS_MAX = 1024

# (node, message, seconds) -> the reply; raises EdgeError
Exchange = Callable[[str, bytes, float], Awaitable[bytes]]


class StateEarly:
    """On the event loop's thread. ``number``: unlike every other one. ``rate_bit_s``: of the way to a node, 0: unknown.

    ``patience_s``: how long so many bytes to a node may take.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        node_id: str,
        number: Callable[[], int],
        rate_bit_s: Callable[[str], float],
        patience_s: Callable[[str, int], float],
    ) -> None:
        self._exchange = exchange
        self._node_id = node_id
        self._number = number
        self._rate_bit_s = rate_bit_s
        self._patience_s = patience_s
        # Where a key that is about to be written is read next, and what a run writes next, by its group of keys.
        self._bound: OrderedDict[str, str] = OrderedDict()
        self._runs: OrderedDict[str, str] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flying_bytes = 0
        self._flying: Counter[str] = Counter()  # groups, by node
        self.groups = 0  # that were there before anybody was asked to take them

    def bound_for(self, node: str, keys: Sequence[str]) -> None:
        """These keys are about to be written, and are read at the node next."""
        for key in keys:
            self._bound.pop(key, None)
            self._bound[key] = node
        while len(self._bound) > _KEYS_MAX:
            self._bound.popitem(last=False)

    def run_goes_to(self, node: str, run: str) -> None:
        """A step of this run is running; the one after it is to run at the node."""
        group = group_of(f"{RUNS}{run}/")
        self._runs.pop(group, None)
        self._runs[group] = node
        while len(self._runs) > _RUNS_MAX:
            self._runs.popitem(last=False)

    def _read_next(self, key: str) -> str:
        by_run = self._runs.get(group_of(key), "")
        return self._bound.pop(key, by_run)

    def going(self, wanted: Sequence[Wanted]) -> asyncio.Future[list[Written]] | None:
        """A group is about to be written, and the hashes of its large values are made; what it came to is put into the
        future. None: it does not travel.
        """
        writes = [one for one in wanted if one.op.op != "get"]
        nodes = {self._read_next(one.op.key) for one in writes} - {""}
        for group in {group_of(one.op.key) for one in writes}:
            self._runs.pop(group, None)  # the step after it may go elsewhere
        large = sum(len(one.value or b"") for one in writes if one.entry is not None)
        small = sum(len(one.value or b"") for one in writes if one.entry is None)
        if (
            len(nodes) != 1
            or len(writes) > ITEMS_MAX
            or small > INLINE_BYTES_MAX
            or self._flying_bytes + large > FLYING_BYTES_MAX
        ):
            return None
        (node,) = nodes
        if self._flying[node] >= GROUPS_PER_NODE_MAX:
            return None
        written: asyncio.Future[list[Written]] = asyncio.get_running_loop().create_future()
        self._flying_bytes += large
        self._flying[node] += 1
        self._spawn(self._send(node, writes, written, large))
        return written

    async def close(self) -> None:
        """Idempotent."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(
        self, node: str, writes: Sequence[Wanted], written: asyncio.Future[list[Written]], size_bytes: int
    ) -> None:
        try:
            transfer = self._number()
            await self._send_chunks(node, transfer, [one for one in writes if one.entry is not None])
            entries = tuple(
                one.entry for one in await written if one.entry is not None and one.op.op != "get"
            )
            request = CommitRequest(self._number(), transfer, entries)
            _taken(await self._ask(node, request, 0), Custody)
            self.groups += 1
        except EdgeError as error:  # it goes the ordinary way
            log.debug("a group did not travel while it was written", node=node, why=error.message)
        finally:
            self._flying_bytes -= size_bytes
            self._flying[node] -= 1

    async def _send_chunks(self, node: str, transfer: int, large: Sequence[Wanted]) -> None:
        not_yet = Version(int(time.time() * 1000), 0, self._node_id)
        entries = tuple(
            msgspec.structs.replace(one.entry, version=not_yet) for one in large if one.entry is not None
        )
        have = _taken(await self._ask(node, Offer(self._number(), transfer, entries), 0), Have)
        data = [piece for one in large for piece in chunks_of(one.value or b"")]
        parts = [
            Part(place, bytes(piece)) for place, piece in enumerate(data) if has_bit(have.missing, place)
        ]
        messages = _messages(parts)

        async def fly() -> None:
            for some in messages:
                ask = Chunks(self._number(), transfer, some)
                _taken(await self._ask(node, ask, level_for(self._rate_bit_s(node))), Ack)

        await asyncio.gather(*(fly() for _ in range(_WINDOW)))

    async def _ask(self, node: str, message: Message, level: int) -> Message:
        heavy = is_heavy(message)
        data = await asyncio.to_thread(encode, message, level) if heavy else encode(message, level)
        return decode(await self._exchange(node, data, self._patience_s(node, len(data))))


def _taken(reply: Message, kind: type[T]) -> T:
    """Raises BadTransfer for another reply, and for a refusal."""
    if not isinstance(reply, kind):
        raise BadTransfer("another reply than was asked for")
    if reply.refused:
        raise BadTransfer(f"refused: {reply.refused.value}")
    return reply


def _messages(parts: Sequence[Part]) -> Iterator[tuple[Part, ...]]:
    some: list[Part] = []
    size_bytes = 0
    for part in parts:
        if some and size_bytes + len(part.data) > _MESSAGE_BYTES:
            yield tuple(some)
            some, size_bytes = [], 0
        some.append(part)
        size_bytes += len(part.data)
    if some:
        yield tuple(some)
