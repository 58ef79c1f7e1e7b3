"""What running guests ask of ``edge_state``, answered through their call's session.

A guest gets a value, a number or a code, whatever it says and whatever happens here: nothing that it does ends anything
but its own call.
"""

from __future__ import annotations

import asyncio

import structlog

from edgeagent.model.errors import (
    BadRequest,
    Busy,
    Conflict,
    EdgeError,
    NotAllowed,
    StorageFull,
    TooLarge,
)
from edgeagent.node.state_port import StatePort
from edgeagent.node.state_session import StepSession, Value, Write, durability_of
from edgeagent.runtime.port import Ask, AskKind, Engine, Payload
from edgeagent.state.calls import Op
from edgeagent.state.entry import Durability
from edgeagent.state.errors import BadKey, Behind, KeyTaken, NotDurable, VersionMismatch
from edgeagent.state.guest_layout import (
    HELD,
    Answered,
    Code,
    Flag,
    GuestOp,
    OpCode,
    pack_list,
    pack_replies,
    text_of,
    unpack_group,
)
from edgeagent.state.hlc import read_version

__all__ = ["StateGuest", "StatePort"]

log = structlog.get_logger("state")

# Larger values come to guests in hoses, whose pages are mapped; as Crossovers.window_bytes_min.
_LEASE_BYTES_MIN = 512 << 10
_PUT_FLAGS = int(Flag.NOW | Flag.PEER | Flag.GROUND)
# The first that fits says the code.
_CODES: tuple[tuple[type[EdgeError], Code], ...] = (
    (VersionMismatch, Code.VERSION),
    (KeyTaken, Code.TAKEN),
    (Conflict, Code.FENCED),
    (NotAllowed, Code.DENIED),
    (TooLarge, Code.TOO_LARGE),
    (StorageFull, Code.NO_ROOM),
    (Behind, Code.BEHIND),
    (NotDurable, Code.LATE),
    (Busy, Code.FULL),
    (BadRequest, Code.BAD),
)


class StateGuest:
    """On the event loop's thread; the contexts of its asks are StepSessions."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tasks: set[asyncio.Task[None]] = set()

    def asked(self, ask: Ask) -> None:
        """A guest waits for ``engine.answer``."""
        if not isinstance(ask.context, StepSession):
            if ask.payload is not None:
                ask.payload.close()
            self._engine.answer(ask.call_id, Code.OFF)
            return
        task = asyncio.get_running_loop().create_task(self._serve(ask, ask.context))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """What is under way is given up."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, ask: Ask, session: StepSession) -> None:
        status, answer = int(Code.FAILED), None
        try:
            status, answer = await self._answer(ask, session)
        except EdgeError as error:
            status = _code_of(error)
            if ask.kind is AskKind.STATE_CAS and isinstance(error, VersionMismatch):
                answer = self._engine.payload_of(str(error.details.get("version", "")).encode())
            if status == Code.FAILED:
                log.warning("state failed a function", function=ask.function, why=error.message)
        except Exception:  # a fault of ours must not leave the guest waiting
            log.exception("state failed a function", function=ask.function)
        self._engine.answer(ask.call_id, status, answer)

    async def _answer(self, ask: Ask, session: StepSession) -> tuple[int, Payload | None]:
        match ask.kind:
            case AskKind.STATE_GET:
                value = await session.get(session.key(text_of(ask.name)))
                return (Code.NONE, None) if value is None else (0, await self._payload(value))
            case AskKind.STATE_PUT:
                return await self._put(ask, session), None
            case AskKind.STATE_DELETE:
                return await session.write(session.key(text_of(ask.name)), None, Flag(0)), None
            case AskKind.STATE_LIST:
                return 0, self._engine.payload_of(await _listing(ask, session))
            case AskKind.STATE_CAS:
                return await self._cas(ask, session)
            case AskKind.STATE_GROUP:
                return 0, await self._group(ask, session)
            case _:
                version = await session.version(session.key(text_of(ask.name)))
                return (0, self._engine.payload_of(version.encode())) if version else (Code.NONE, None)

    async def _put(self, ask: Ask, session: StepSession) -> int:
        assert ask.payload is not None
        status = 0
        try:
            if ask.slot & ~_PUT_FLAGS:
                raise BadKey(f"flags {ask.slot} of a put are unknown")
            key = session.key(text_of(ask.name))
            status = await session.write(key, Value(ask.payload), Flag(ask.slot))
        finally:
            if status != HELD:
                ask.payload.close()
        return status

    async def _cas(self, ask: Ask, session: StepSession) -> tuple[int, Payload]:
        assert ask.payload is not None
        try:
            key, expect = session.key(text_of(ask.name)), _version(text_of(ask.extra))
            op = await session.op(key, Write(Value(ask.payload), Durability.LOCAL), expect)
        finally:
            ask.payload.close()
        done = (await session.through([op])).results[0]
        return done.durability.rank, self._engine.payload_of(done.version.encode())

    async def _group(self, ask: Ask, session: StepSession) -> Payload:
        assert ask.payload is not None
        try:
            raw = await Value(ask.payload).read()
        finally:
            ask.payload.close()
        pieces = pack_replies(await _run_group(unpack_group(raw), session))
        size = sum(map(len, pieces))
        if size >= 1 << 31:
            raise TooLarge(f"the reply to a group has {size} bytes")
        return await self._payload(Value(b"".join(pieces)))

    async def _payload(self, value: Value) -> Payload:
        """The value for a guest: a large one in a hose, made once for all that read it."""
        if not isinstance(value.data, bytes):
            return value.data
        if value.size < _LEASE_BYTES_MIN:
            return self._engine.payload_of(value.data)
        try:
            value.data = await asyncio.to_thread(self._leased, value.data)
        except MemoryError:
            return self._engine.payload_of(await value.read())
        return value.data

    def _leased(self, data: bytes) -> Payload:
        lease = self._engine.lease(len(data))
        with lease.view as view:
            view[: len(data)] = data
        return lease.publish(len(data))


async def _listing(ask: Ask, session: StepSession) -> bytes:
    prefix = session.prefix(text_of(ask.name))
    after = session.key(text_of(ask.extra)) if ask.extra else ""
    rows, more = await session.list(prefix, after)
    return pack_list([(session.name(one.key), one.version, one.size_bytes) for one in rows], more=more)


async def _run_group(ops: list[GuestOp], session: StepSession) -> list[Answered]:
    """All or nothing, in the order of the operations. Raises EdgeError."""
    below = next((session.prefix(one.key) for one in ops if one.op is OpCode.BELOW), None)
    named = [(session.key(one.key), one) for one in ops if one.op is not OpCode.BELOW]
    if not session.buffers or any(one.flags & (Flag.NOW | Flag.EXPECT) for one in ops):
        return await _group_now(named, below, session)
    missing = {key for key, one in named if one.op is OpCode.GET and not session.is_known(key)}
    found = await session.fetch(sorted(missing), below) if missing or below is not None else []
    replies = []
    for key, one in named:
        if one.op is OpCode.GET:
            replies.append(await _read(key, session))
            continue
        value = Value(bytes(one.value)) if one.op is OpCode.PUT else None
        status = await session.write(key, value, one.flags, one.ttl_ms)
        replies.append(Answered(status, session.name(key)))
    if below is not None:
        held = [key for key in session.held() if key.startswith(below)]
        answers = [await _read(key, session) for key in sorted({*found, *held})]
        replies += [one for one in answers if one.status != Code.NONE]
    return replies


async def _read(key: str, session: StepSession) -> Answered:
    value = session.seen(key)
    if value is None:
        return Answered(Code.NONE, session.name(key))
    return Answered(0, session.name(key), value.version, await value.read())


async def _group_now(
    named: list[tuple[str, GuestOp]], below: str | None, session: StepSession
) -> list[Answered]:
    ops, durability = [], Durability.LOCAL
    for key, one in named:
        if one.op is OpCode.GET:
            ops.append(Op(op="get", key=key))
            continue
        wanted = durability_of(one.flags)
        durability = max(durability, wanted, key=lambda level: level.rank)
        expect = _version(one.version) if Flag.EXPECT in one.flags else None
        value = Value(bytes(one.value)) if one.op is OpCode.PUT else None
        ops.append(await session.op(key, Write(value, wanted, one.ttl_ms), expect))
    done = await session.through(ops, durability, below)
    replies = []
    for i, told in enumerate(done.results):
        is_write = i < len(ops) and ops[i].op != "get"
        status = told.durability.rank if is_write else 0 if told.found else int(Code.NONE)
        replies.append(Answered(status, session.name(told.key), told.version, told.value or b""))
    return replies


def _version(text: str) -> str:
    """Raises BadKey; "" is the version of what is not there."""
    return read_version(text).text() if text else ""


def _code_of(error: EdgeError) -> int:
    return next((code for kind, code in _CODES if isinstance(error, kind)), Code.FAILED)
