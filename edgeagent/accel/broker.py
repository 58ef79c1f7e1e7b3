"""The node's side of one GPU: calls queue here, go to the broker process, and come back; or fail, all at once, in time.

Rules, which tests hold:

1. Nobody waits for a GPU that is not READY: ``run`` refuses at once, and what waited when it fell fails at once.
2. Every call ends once: with its outputs in its slot, or with a GpuFailed after which they never count.
3. A call that runs for longer than ``deadline_s`` has hung, and its broker is killed; as is one that answers no ping.
4. A caller who still has time for another way says how much, and is let go then. While the call that runs has
   outstayed somebody's patience, nobody else is sent after it.
5. Two calls are under way at most, one that runs and one for which the device need not wait. The rest waits here,
   where it is shared out by function.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Sequence
from typing import NamedTuple, Protocol

import structlog

from edgeagent.accel.arena import Arena, Slot
from edgeagent.accel.backoff import Backoff
from edgeagent.accel.broker_link import Link
from edgeagent.accel.broker_state import Action, BrokerLife, State
from edgeagent.accel.broker_wire import (
    Absent,
    Done,
    Failed,
    Forget,
    FromBroker,
    Ping,
    Pong,
    Ready,
    Unfit,
    Work,
)
from edgeagent.accel.errors import (
    BrokerLost,
    DeviceFull,
    DeviceLate,
    GpuFailed,
    GpuFull,
    KernelRaised,
    LostBeside,
    OperandRefused,
)
from edgeagent.accel.fair_queue import FairQueue
from edgeagent.accel.settings import Chance

__all__ = ["Broker", "BrokerSettings", "Source"]

log = structlog.get_logger("accel")

_UNDER_WAY_MAX = 2


class BrokerSettings(NamedTuple):
    """Bounds of one GPU's service; ``[accel]`` of the configuration says them."""

    arena_bytes: int = 256 << 20
    queue_max: int = 64
    deadline_s: float = 30.0
    start_timeout_s: float = 60.0
    idle_s: float = 600.0
    ping_every_s: float = 5.0
    ping_timeout_s: float = 5.0
    cache_dir: str = ""


class Source(Protocol):
    """Memory of a hose that an operand lies in: a descriptor to read by. It is kept until its call is over."""

    @property
    def fd(self) -> int: ...


class _Call:
    __slots__ = ("begun_s", "charged_s", "function", "future", "slot", "sources", "work")

    def __init__(
        self, work: Work, slot: Slot, sources: Sequence[Source], future: asyncio.Future[Done]
    ) -> None:
        self.work, self.slot, self.sources, self.future = work, slot, sources, future
        self.function = work.function
        self.begun_s, self.charged_s = math.inf, 0.0


class Broker:
    """On the event loop's thread. ``backend`` is ``module:attribute`` of what the process shall drive."""

    def __init__(
        self,
        settings: BrokerSettings,
        backend: str,
        device: int = 0,
        *,
        chance: Chance | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.device, self.device_name = device, ""
        self.memory_bytes = self.used_bytes = 0
        self.is_kept = False  # somebody must find it ready: it does not rest
        self.barred = ""  # why no call may be sent there, however well it answers
        # By function, probes and what failed included.
        self.worked_s: defaultdict[str, float] = defaultdict(float)
        self._settings, self._backend, self._clock = settings, backend, clock
        self.life = BrokerLife(
            Backoff(chance or random.Random()),
            start_timeout_s=settings.start_timeout_s,
            idle_s=settings.idle_s,
        )
        self._link: Link | None = None
        self._waiting: FairQueue[_Call] = FairQueue(settings.queue_max)
        self._under_way: deque[_Call] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = math.inf
        self._heard_s = 0.0
        self._late: _Call | None = None  # it runs for longer than somebody could wait
        self._ping_s = math.inf  # when the ping was sent that is not answered
        self._number = 0

    @property
    def ready(self) -> bool:
        """Whether calls are taken now."""
        return self._serves and not self.stuck and not self.barred

    @property
    def why_not(self) -> str:
        """What keeps calls from it."""
        if self.barred:
            return f"is {self.barred}"
        if self._serves and self.stuck:
            return f"may have hung in {self._under_way[0].work.kernel} of {self._under_way[0].function}"
        return f"is {self.life.state}" + (f": {self.life.why}" if self.life.why else "")

    @property
    def _serves(self) -> bool:
        return self.life.state is State.READY

    @property
    def stuck(self) -> bool:
        """What runs may have hung."""
        return self._late is not None and bool(self._under_way) and self._under_way[0] is self._late

    @property
    def load(self) -> int:
        """Calls that wait or run."""
        return len(self._waiting) + len(self._under_way)

    @property
    def pid(self) -> int:
        """Of the process; 0: none."""
        return self._link.pid if self._link is not None else 0

    @property
    def arena_used_bytes(self) -> int:
        return self._link.arena.used_bytes if self._link is not None else 0

    def want(self) -> None:
        """Somebody would use this GPU: it is started where it is not, if its time has come."""
        if self.life.wanted(self._clock()) is Action.SPAWN:
            self._spawn(self._start())

    def reserve(self, count: int, function: str = "") -> Slot:
        """A slot for the operands of a call of this function. Raises GpuFull."""
        if self._link is None or not self.ready:
            raise GpuFull("the GPU is not ready")
        return self._link.arena.take(count, function)

    async def run(
        self,
        function: str,
        kernel: str,
        described: bytes,
        slot: Slot,
        maps: Sequence[tuple[int, int]] = (),
        sources: Sequence[Source] = (),
        patience_s: float = math.inf,
    ) -> Done:
        """One call whose inputs lie in ``slot``, which ``reserve`` gave; its outputs do then. Raises GpuFailed.

        ``maps``: (offset, bytes) of inputs that lie elsewhere, as ``Packing`` has them; ``sources`` are where. Beyond
        ``patience_s`` the caller has another way: DeviceLate where the call runs, LostBeside where others' do.

        Whoever is cancelled drops its own hold of the slot, no more: the broker may still write there.
        """
        if self._link is None or not self.ready:
            raise GpuFull("the GPU is not ready")
        self._number += 1
        work = Work(self._number, function, kernel, described, slot.offset, len(slot.memory), tuple(maps))
        call = _Call(work, slot, sources, asyncio.get_running_loop().create_future())
        if not self._waiting.push(function, call):
            raise GpuFull("the queue of the GPU is full", hint="accel.queue_max says how long it may be")
        slot.hold()
        self._pump()
        try:
            if patience_s == math.inf:
                return await call.future
            async with asyncio.timeout(patience_s):
                return await call.future
        except TimeoutError:
            raise self._outstayed(call, patience_s) from None
        finally:
            if self._waiting.remove(function, call):
                slot.drop()

    def _outstayed(self, call: _Call, patience_s: float) -> GpuFailed:
        head = self._under_way[0] if self._under_way else None
        why = f"no answer within {patience_s:.3g} s, and the CPU needs the rest of the time"
        if head is None or self._clock() - head.begun_s < patience_s / 2:  # it waited, which is no fault
            return LostBeside(why)
        self._late = head
        return DeviceLate(why) if call is head else LostBeside(why)

    def forget(self, function: str) -> None:
        """A function is gone."""
        self.worked_s.pop(function, None)
        if self._link is not None and self._serves:
            self._say(Forget(function))

    async def close(self) -> None:
        """What waits or runs fails, and the process ends."""
        link = self._link
        if self.life.stop(self._clock()) is Action.END:
            self._drop("the node stops")
        if self._timer is not None:
            self._timer.cancel()
        if link is not None:
            await link.end()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        while len(self._under_way) < _UNDER_WAY_MAX and self._serves:
            next_ = self._waiting.pop()
            if next_ is None:
                return
            call, charged_s = next_[1:]
            call.charged_s = charged_s
            self._under_way.append(call)
            self._run_head()
            self._say(call.work, [one.fd for one in call.sources])

    def _run_head(self) -> None:
        """From now on the first one counts as running."""
        head = self._under_way[0]
        if head.begun_s == math.inf:
            head.begun_s = self._clock()
            self._arm(head.begun_s + self._settings.deadline_s)

    def _ended(self, id_: int, took_s: float, outcome: Done | GpuFailed) -> None:
        if not self._under_way or self._under_way[0].work.id != id_:
            self._fall("the broker answers what nobody asked")
            return
        call = self._under_way.popleft()
        call.slot.drop()
        self._waiting.settle(call.function, call.charged_s, took_s)
        self.worked_s[call.function] += took_s
        if not call.future.done():
            if isinstance(outcome, Done):
                call.future.set_result(outcome)
            else:
                call.future.set_exception(outcome)
        if self._under_way:
            self._run_head()
        self._pump()

    def _say(self, message: Work | Forget | Ping, fds: Sequence[int] = ()) -> None:
        assert self._link is not None
        try:
            self._link.send(message, fds)
        except BrokerLost as error:
            self._fall(error.message)

    def _told(self, message: FromBroker) -> None:
        self._heard_s = self._clock()
        match message:
            case Done(id_, run_us):
                self._ended(id_, run_us / 1e6, message)
            case Failed(id_, "memory", text):
                self._ended(id_, self._ran_s(), DeviceFull(text))
            case Failed(id_, "operand", text):
                self._ended(id_, self._ran_s(), OperandRefused(text))
            case Failed(id_, "kernel", text):
                self._ended(id_, self._ran_s(), KernelRaised(text))
            case Failed(_, _, text) | Unfit(text):
                self._fall(text)
            case Pong(_, used_bytes):
                self._ping_s, self.used_bytes = math.inf, used_bytes
            case Ready(device, memory_bytes):
                self._is_ready(device, memory_bytes)
            case Absent(why):
                self.life.absent(self._clock(), why)
                log.info("no GPU is used", device=self.device, why=why)
                self._drop(why)

    def _ran_s(self) -> float:
        return self._clock() - self._under_way[0].begun_s if self._under_way else 0.0

    # -- the process ---------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        if self.life.state is not State.STARTING:  # stopped meanwhile
            return
        try:
            link = self._link = Link(Arena(self._settings.arena_bytes), self._told, self._fall)
        except OSError as error:
            self._fall(f"the arena could not be made: {error.strerror}")
            return
        self._arm(self.life.next_s())
        try:
            await link.start(self._backend, self.device, self._settings.cache_dir)
        except BrokerLost as error:
            if self._link is link:
                self._fall(error.message)

    def _is_ready(self, device: str, memory_bytes: int) -> None:
        now_s = self._clock()
        started_s = now_s - self.life.since_s
        self.life.ready(now_s)
        self.device_name, self.memory_bytes = device, memory_bytes
        log.info("a GPU is ready", device=device, index=self.device, start_ms=round(started_s * 1000))
        self._arm(min(self.life.next_s(), now_s + self._settings.ping_every_s))

    def _fall(self, why: str) -> None:
        """The broker is of no use any more: kill it, and let everybody go."""
        self.life.fell(self._clock(), why)
        log.warning(
            "a GPU was lost",
            index=self.device,
            why=why,
            calls=self.load,
            again_s=round(self.life.try_at_s - self._clock(), 1),
        )
        self._drop(why)

    def _drop(self, why: str) -> None:
        link, self._link = self._link, None
        self._ping_s, self.used_bytes = math.inf, 0
        if self._under_way:
            self.worked_s[self._under_way[0].function] += self._ran_s()
        left = [*self._under_way, *self._waiting.clear()]
        self._under_way.clear()
        for place, call in enumerate(left):
            call.slot.drop()
            if not call.future.done():
                ran = place == 0 and call.begun_s < math.inf
                call.future.set_exception(BrokerLost(why) if ran else LostBeside(why))
        if link is not None:
            link.mute()
            self._spawn(self._end(link))

    async def _end(self, link: Link) -> None:
        if not await link.end():
            log.error(
                "a broker does not die", pid=link.pid, hint="its driver hangs: the machine may need a restart"
            )

    # -- time ----------------------------------------------------------------------------------------------------------

    def _arm(self, at_s: float) -> None:
        """Look at ``at_s``, or earlier."""
        if at_s >= self._timer_s and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = at_s
        delay_s = max(0.0, at_s - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._look)

    def _look(self) -> None:
        self._timer, self._timer_s = None, math.inf
        now_s, settings = self._clock(), self._settings
        if self._link is None:
            return
        if self.life.overdue(now_s):
            self._fall(f"the start took more than {settings.start_timeout_s:g} s")
            return
        if self._under_way and now_s >= self._under_way[0].begun_s + settings.deadline_s:
            call = self._under_way[0].work
            self._fall(f"{call.kernel} of {call.function} took more than {settings.deadline_s:g} s")
            return
        if now_s >= self._ping_s + settings.ping_timeout_s and not self._under_way:
            self._fall(f"no answer to a ping for {settings.ping_timeout_s:g} s")
            return
        if self.is_kept and self._serves:
            self.life.wanted(now_s)
        if not self.load and self.life.rest(now_s) is Action.END:
            log.info("a GPU rests", index=self.device, why=self.life.why)
            self._drop(self.life.why)
            return
        is_quiet = self._serves and not self._under_way and self._ping_s == math.inf
        if is_quiet and now_s >= self._heard_s + settings.ping_every_s:
            self._ping_s = now_s
            self._number += 1
            self._say(Ping(self._number))
        self._arm(self._next_s(now_s))

    def _next_s(self, now_s: float) -> float:
        settings = self._settings
        looks = [self.life.next_s()]
        if self._serves:
            looks.append(max(now_s, self._heard_s) + settings.ping_every_s)
        if self._ping_s < math.inf:
            looks.append(self._ping_s + settings.ping_timeout_s)
        if self._under_way:
            looks.append(self._under_way[0].begun_s + settings.deadline_s)
        return max(min(looks), now_s + 0.001)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
