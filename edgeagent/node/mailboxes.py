"""Streams between functions: what running guests ask of ``edge_hose``, and who gets the messages.

A name is a function of this node, a hose (every function whose manifest says ``[hose] input = NAME`` gets the message,
and the processes attached to it as consumers), or NAME@PEER. The queues are in :mod:`edgeagent.hose.mailbox`; this is
their shell: it answers guests, starts runs, and lets go of what was taken.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Protocol

import structlog

from edgeagent.hose.mailbox import Drop, Effect, Give, Mailbox, Outcome, Start, Tell
from edgeagent.hose.settings import TIERS
from edgeagent.model.errors import EdgeError, NotFound
from edgeagent.model.function import Deployed
from edgeagent.node.meters import Meters
from edgeagent.node.peers import UnknownPeer
from edgeagent.node.result import Result
from edgeagent.runtime.port import Ask, AskKind, Engine, Payload
from edgeagent.state.guest_layout import Code

__all__ = ["AccelAsks", "Mailboxes", "Message", "Outlet", "Remote", "StateAsks"]

log = structlog.get_logger("hose")

BAD, END, AGAIN, PEER = -1, -7, -8, -9  # as in sdk/edge_hose.h
SLOT_OWN, SLOT_INPUT = 1, 2
_NAME = re.compile(r"[a-z0-9-]{1,63}(?:@[a-z0-9-]{1,63})?")
_STATUS = {Outcome.ACCEPTED: 0, Outcome.AGAIN: AGAIN, Outcome.END: END}

# A queue by what its messages come from: (hose, function that takes its frames), or ("", function).
Key = tuple[str, str]


class Message:
    """A payload on its way to one or more takers; let go by the last, which closes it where it is ``owned``."""

    __slots__ = ("_done", "_holders", "_owned", "payload")

    def __init__(
        self, payload: Payload, done: Callable[[], None] | None = None, *, owned: bool = True
    ) -> None:
        self.payload = payload
        self._holders = 1
        self._done = done
        self._owned = owned

    def hold(self) -> None:
        """One more has it."""
        self._holders += 1

    def drop(self) -> None:
        """One less."""
        self._holders -= 1
        if self._holders == 0:
            if self._owned:
                self.payload.close()
            if self._done is not None:
                self._done()


class Outlet(Protocol):
    """Where messages leave the node for other processes of the host."""

    def consumers(self, hose: str) -> int: ...
    async def publish(self, hose: str, payload: Payload) -> None: ...


class Remote(Protocol):
    """Where messages leave for other hosts; raises EdgeError."""

    def check(self, peer: str) -> None: ...
    async def send(self, peer: str, name: str, payload: Payload, sender: str) -> None: ...
    async def open(self, peer: str, name: str, sender: str) -> None: ...
    async def close_stream(self, peer: str, name: str, sender: str) -> None: ...


class StateAsks(Protocol):
    """Who answers what guests ask of ``edge_state``."""

    def asked(self, ask: Ask) -> None: ...


class AccelAsks(Protocol):
    """Who answers what guests ask of ``edge_accel``."""

    def asked(self, ask: Ask) -> None: ...


class NnAsks(Protocol):
    """Who answers what guests ask of ``wasi_ephemeral_nn``."""

    def asked(self, ask: Ask) -> None: ...
    def ended(self, call_id: int) -> None: ...


class _Runs(Protocol):
    async def feed(self, name: str, payload: Payload, *, keep: bool) -> Result: ...


class _Deployed(Protocol):
    def list(self) -> list[Deployed]: ...
    def get(self, name: str) -> Deployed: ...


class Mailboxes:
    """On the event loop's thread. ``outlet``, ``remote``, ``state``, ``accel``, ``nn`` are set where there are such."""

    def __init__(
        self,
        engine: Engine,
        functions: _Deployed,
        runs: _Runs,
        meters: Meters,
        *,
        messages_max: int,
        bytes_max: int,
    ) -> None:
        self.outlet: Outlet | None = None
        self.remote: Remote | None = None
        self.state: StateAsks | None = None
        self.accel: AccelAsks | None = None
        self.nn: NnAsks | None = None
        self._engine = engine
        self._functions = functions
        self._runs = runs
        self._meters = meters
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._boxes: dict[Key, Mailbox[Message]] = {}
        self._putting: dict[
            Hashable, list[int]
        ] = {}  # who sends to several at once: how many have yet to accept
        self._futures: dict[Hashable, asyncio.Future[int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._puts = 0
        self._away: dict[int, set[str]] = {}  # by call: NAME@PEER that it has sent to
        engine.serve(self.asked, self.ended)
        meters.gauge("hose_messages_waiting", "messages that no run has taken yet", self._waiting)
        meters.gauge("hose_waiting_bytes", "their bytes", self._waiting_bytes)

    # -- for the node --------------------------------------------------------------------------------------------------

    async def put(self, name: str, message: Message, sender: Hashable) -> None:
        """Send on behalf of another process or host; returns when everybody who gets it has room for it.

        The message is the mailbox's from here on. Raises NotFound where nobody takes messages of this name.
        """
        boxes = self._takers(name)
        if not boxes:
            message.drop()
            raise NotFound(f"no function takes messages for {name}")
        self._puts += 1
        who = (sender, self._puts)  # waits for one thing at a time, while the sender's stream stays open
        self.open(name, sender)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._futures[who] = future
        try:
            self._put(who, boxes, message, may_wait=True)
            await future
        finally:
            del self._futures[who]
            self._putting.pop(who, None)
            for key in list(self._boxes):
                self._do(key, self._boxes[key].left(who))

    def open(self, name: str, sender: Hashable) -> None:
        """The stream lasts until ``close``."""
        for key, box in self._takers(name):
            self._do(key, box.open(sender))

    def close(self, name: str, sender: Hashable) -> None:
        """``sender`` sends no more to this name."""
        for key, box in self._takers(name):
            self._do(key, box.close(sender))

    def close_sender(self, sender: Hashable) -> None:
        """``sender`` sends no more, to anybody."""
        for key in list(self._boxes):
            self._do(key, self._boxes[key].left(sender))

    def forget(self, function: str) -> None:
        """A function is gone: what waits for it is dropped."""
        for key in [key for key in self._boxes if key[1] == function]:
            self._do(key, self._boxes[key].clear())

    async def stop(self) -> None:
        """Drop what waits and stop what was started here."""
        for key in list(self._boxes):
            self._do(key, self._boxes[key].clear())
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- what guests ask -----------------------------------------------------------------------------------------------

    def asked(self, ask: Ask) -> None:
        """A guest waits for ``engine.answer``."""
        if ask.kind.is_state:
            self._pass(ask, self.state)
            return
        if ask.kind.is_accel:
            self._pass(ask, self.accel)
            return
        match ask.kind:
            case AskKind.NN_CALL:
                self._pass(ask, self.nn)
            case AskKind.NEXT:
                self._next(ask)
            case AskKind.ACCEPT:
                self._accept(ask)
            case AskKind.SEND:
                self._send(ask)
            case AskKind.OPEN | AskKind.CLOSE:
                self._open_or_close(ask)

    def ended(self, call_id: int) -> None:
        """A run that has asked something is over."""
        if self.nn is not None:
            self.nn.ended(call_id)
        self._putting.pop(call_id, None)
        self.close_sender(call_id)
        for target in self._away.pop(call_id, ()):
            self._spawn(self._close_away(call_id, target))

    def _pass(self, ask: Ask, to: StateAsks | AccelAsks | NnAsks | None) -> None:
        if to is not None:
            to.asked(ask)
            return
        if ask.payload is not None:
            ask.payload.close()
        self._engine.answer(ask.call_id, Code.OFF)

    def _next(self, ask: Ask) -> None:
        key = self._key_of(ask.function, ask.slot)
        if key is None:
            self._engine.answer(ask.call_id, BAD)
        else:
            self._do(key, self._box(key).next(ask.call_id, may_wait=ask.may_wait))

    def _accept(self, ask: Ask) -> None:
        name = _text(ask.name)
        for slot in (SLOT_OWN, SLOT_INPUT):
            key = self._key_of(ask.function, slot)
            if key is not None and name == (key[0] or key[1]):
                self._do(key, self._box(key).accept(ask.call_id))
                self._engine.answer(ask.call_id, slot)
                return
        self._engine.answer(ask.call_id, BAD)

    def _open_or_close(self, ask: Ask) -> None:
        name = _text(ask.name)
        if "@" in name:
            self._spawn(self._open_or_close_away(ask.kind, ask.call_id, name))
            return
        local = self._takers(name)
        if not local and not self._leads_out(name):
            self._engine.answer(ask.call_id, BAD)
            return
        self._engine.answer(ask.call_id, 0)
        for key, box in local:
            self._do(key, box.open(ask.call_id) if ask.kind is AskKind.OPEN else box.close(ask.call_id))

    def _send(self, ask: Ask) -> None:
        assert ask.payload is not None
        message = Message(ask.payload)
        name = _text(ask.name)
        if "@" in name:
            self._spawn(self._send_away(ask.call_id, name, message))
            return
        boxes = self._takers(name)
        leaves = self._leads_out(name)
        if not boxes and not leaves:
            message.drop()
            self._engine.answer(ask.call_id, BAD)
            return
        if leaves:
            message.hold()
            self._spawn(self._publish(name, message))
        if boxes:
            self._put(ask.call_id, boxes, message, may_wait=ask.may_wait)
        else:
            message.drop()
            self._engine.answer(ask.call_id, 0)

    async def _send_away(self, call_id: int, target: str, message: Message) -> None:
        name, _, peer = target.partition("@")
        try:
            if self.remote is None:
                raise UnknownPeer(f"this node has no peer {peer}")
            self.remote.check(peer)
            self._away.setdefault(call_id, set()).add(target)
            await self.remote.send(peer, name, message.payload, str(call_id))
        except EdgeError as error:
            self._meters.count("hose_messages_failed")
            log.warning("a message was not sent", to=target, why=error.message)
            self._engine.answer(call_id, BAD if isinstance(error, NotFound | UnknownPeer) else PEER)
        else:
            self._meters.count("hose_messages")
            self._engine.answer(call_id, 0)
        finally:
            message.drop()

    async def _open_or_close_away(self, kind: AskKind, call_id: int, target: str) -> None:
        self._engine.answer(call_id, await self._tell_away(kind, call_id, target))

    async def _close_away(self, call_id: int, target: str) -> None:
        await self._tell_away(AskKind.CLOSE, call_id, target)

    async def _tell_away(self, kind: AskKind, call_id: int, target: str) -> int:
        name, _, peer = target.partition("@")
        try:
            if self.remote is None:
                raise UnknownPeer(f"this node has no peer {peer}")
            self.remote.check(peer)
            if kind is AskKind.OPEN:
                self._away.setdefault(call_id, set()).add(target)
                await self.remote.open(peer, name, str(call_id))
            else:
                self._away.get(call_id, set()).discard(target)
                await self.remote.close_stream(peer, name, str(call_id))
        except EdgeError as error:  # it is closed there when it has been silent for long
            log.warning("a peer was not told of a stream", to=target, why=error.message)
            return BAD if isinstance(error, NotFound | UnknownPeer) else PEER
        return 0

    async def _publish(self, name: str, message: Message) -> None:
        assert self.outlet is not None
        try:
            await self.outlet.publish(name, message.payload)
        finally:
            message.drop()

    # -- queues --------------------------------------------------------------------------------------------------------

    def _key_of(self, function: str, slot: int) -> Key | None:
        if slot == SLOT_OWN:
            return "", function
        try:
            hose = self._functions.get(function).manifest.hose.input
        except NotFound:
            return None  # undeployed while it runs
        return (hose, function) if slot == SLOT_INPUT and hose else None

    def _box(self, key: Key) -> Mailbox[Message]:
        box = self._boxes.get(key)
        if box is None:
            box = self._boxes[key] = Mailbox(
                messages_max=self._messages_max, bytes_max=self._bytes_max, has_function=True
            )
        return box

    def _takers(self, name: str) -> list[tuple[Key, Mailbox[Message]]]:
        keys: list[Key] = []
        for deployed in () if not name else self._functions.list():
            if deployed.name == name:
                keys.append(("", name))
            if deployed.manifest.hose.input == name:
                keys.append((name, deployed.name))
        return [(key, self._box(key)) for key in keys]

    def _leads_out(self, name: str) -> bool:
        return bool(name) and self.outlet is not None and self.outlet.consumers(name) > 0

    def _put(
        self, who: Hashable, boxes: list[tuple[Key, Mailbox[Message]]], message: Message, *, may_wait: bool
    ) -> None:
        size = message.payload.size
        if not may_wait and not all(box.takes_at_once(size) for _, box in boxes):
            message.drop()
            self._tell(who, AGAIN)
            return
        if len(boxes) > 1:
            message.payload.share()  # once, so that each can map it
            self._putting[who] = [len(boxes)]
        for _ in boxes[1:]:
            message.hold()
        self._meters.count("hose_messages", len(boxes))
        for key, box in boxes:
            self._do(key, box.put(who, message, size))

    def _tell(self, who: Hashable, status: int) -> None:
        left = self._putting.get(who)
        if left is not None and status == 0:
            left[0] -= 1
            if left[0]:
                return
        self._putting.pop(who, None)
        future = self._futures.get(who)
        if future is not None:
            if not future.done():
                future.set_result(status)
        elif isinstance(who, int):
            self._engine.answer(who, status)

    def _do(self, key: Key, effects: list[Effect[Message]]) -> None:
        for effect in effects:
            match effect:
                case Tell(who, outcome):
                    self._tell(who, _STATUS[outcome])
                case Give(who, message):
                    assert isinstance(who, int)
                    self._engine.answer(who, 0, message.payload)
                    message.drop()
                case Start(message):
                    self._spawn(self._run(key, message))
                case Drop(message):
                    self._meters.count("hose_messages_failed")
                    message.drop()
        box = self._boxes.get(key)
        if box is not None and box.is_idle:
            del self._boxes[key]

    async def _run(self, key: Key, message: Message) -> None:
        function = key[1]
        try:
            output = self._functions.get(function).manifest.hose.output
            result = await self._runs.feed(function, message.payload, keep=bool(output))
            self._meters.handed_over(
                TIERS[result.hose.tier], result.hose.copied_bytes, result.hose.mapped_bytes
            )
            await self._pass_on(output, result)
        except EdgeError as error:
            self._meters.count("hose_frames_failed" if key[0] else "hose_messages_failed")
            log.warning("a message was not worked off", function=function, hose=key[0], why=error.message)
        finally:
            message.drop()
            if (box := self._boxes.get(key)) is not None:
                self._do(key, box.run_over())

    async def _pass_on(self, output: str, result: Result) -> None:
        payload = result.payload
        if not output or self.outlet is None or not self.outlet.consumers(output):
            if payload is not None:
                payload.close()
            return
        if payload is None:
            payload = self._engine.payload_of(result.output)
        try:
            await self.outlet.publish(output, payload)
        finally:
            payload.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _waiting(self) -> float:
        return sum(len(box) for box in self._boxes.values())

    def _waiting_bytes(self) -> float:
        return sum(box.bytes for box in self._boxes.values())


def _text(name: bytes) -> str:
    """The name as text; "" where it is none."""
    text = name.decode("ascii", "replace")
    return text if _NAME.fullmatch(text) else ""
