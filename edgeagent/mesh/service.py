"""A node's membership: the gossip core over its sockets, what the node says of itself, and what it knows of others."""

from __future__ import annotations

import asyncio
import random
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import structlog

from edgeagent.gossip.commands import Adopt, Ask, Join, Leave, PlanChanged, Publish, ReportLag, SetUtc
from edgeagent.gossip.context import Ports
from edgeagent.gossip.core import Mesh
from edgeagent.gossip.effects import MemberChanged, NameFree, NameTaken, Notice, RecordChanged, RoundTrip
from edgeagent.gossip.records import (
    Capabilities,
    Digests,
    Identity,
    Load,
    Place,
    Section,
    Sign,
    Verify,
    write_payload,
)
from edgeagent.gossip.states import State
from edgeagent.mesh.addresses import Allowed, is_loopback, text_of
from edgeagent.mesh.carrier import Carrier, PlainSeal
from edgeagent.mesh.emulation import EmulatedLinks
from edgeagent.mesh.ephemeris import with_operators
from edgeagent.mesh.measured import CONTRADICTIONS, CONTRADICTIONS_EMULATED, Contradictions, is_impossible
from edgeagent.mesh.orbit_command import follow_command
from edgeagent.mesh.own_age import OwnAge
from edgeagent.mesh.settings import MeshSettings, advertised_address
from edgeagent.mesh.sky import PLACES, Sky, sunlit
from edgeagent.mesh.sockets import bound_sockets
from edgeagent.model.errors import PeerFailed
from edgeagent.orbit.age import DEFAULT_POLICY
from edgeagent.orbit.elements import Elements
from edgeagent.orbit.nodes import Satellite
from edgeagent.orbit.wire import encode_elements

__all__ = ["MeshService", "Security"]

log = structlog.get_logger("mesh")

_FAREWELL_S = 0.5
_CLOCK_EVERY_S = 5.0
_EMULATED_EVERY_S = 0.25
_SEED_RETRY_S = 10.0
_DIGESTS_MAX = 64
_DIGEST_BYTES = 8


class Security(msgspec.Struct, frozen=True, kw_only=True):
    """What keys make of the mesh; without keys it stays on loopback."""

    seal: Any  # a Seal
    sign: Sign
    verify: Verify
    public_key: bytes = b""


class MeshService:
    """Everything on the loop's thread. ``epoch_ms`` is this life's; ``persist`` writes an incarnation down."""

    def __init__(
        self,
        name: str,
        settings: MeshSettings,
        *,
        epoch_ms: int,
        persist: Callable[[int], None],
        clock_is_set: Callable[[], bool],
        utc_s: Callable[[], float] = time.time,
        security: Security | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self.carrier: Carrier | None = None
        self.sky = Sky(settings.sky, self.utc_now_s)
        self.address = ""
        self.name_taken = False
        self.load_heard_s: dict[str, float] = {}  # when members' load came last, in the loop's time
        self.contradicted = 0  # members whose elements measurements contradicted
        self._contradictions = Contradictions(
            CONTRADICTIONS if settings.emulation is None else CONTRADICTIONS_EMULATED
        )
        self._own_age = OwnAge()
        self._is_far = settings.emulation is not None or not is_loopback(settings.host)
        self._epoch_ms = epoch_ms
        self._persist = persist
        self._clock_is_set = clock_is_set
        self._utc_s = utc_s
        self._security = security
        self._tasks: list[asyncio.Task[None]] = []
        self._said: dict[int, bytes] = {}

    def utc_now_s(self) -> float | None:
        """None while the clock is not set; virtual where orbits are emulated."""
        if not self._clock_is_set():
            return None
        emulation, clock_s = self.settings.emulation, self._utc_s()
        return clock_s if emulation is None else emulation.utc_s(clock_s)

    async def start(self, endpoints: Sequence[str], kind: str = "") -> None:
        """Listen, live, and ask the seeds. ``endpoints`` are the node's other addresses. Raises BadConfig."""
        settings, security = self.settings, self._security
        advertised_address(settings, settings.port, has_keys=security is not None)  # before anything is open
        udp, tcp = bound_sockets(settings.host, settings.port)
        address = advertised_address(settings, int(udp.getsockname()[1]), has_keys=security is not None)
        identity = Identity(
            (address, *endpoints), key=b"" if security is None else security.public_key, kind=kind
        )
        ports = Ports(chance=random.Random(secrets.randbits(64)), contacts=self.sky)
        if security is not None:
            ports = msgspec.structs.replace(ports, sign=security.sign, verify=security.verify)
        ports.verify = with_operators(ports.verify, settings.operators)
        core = Mesh(self.name, identity, settings.knobs, ports, epoch_ms=self._epoch_ms)
        self.carrier = Carrier(
            core,
            PlainSeal() if security is None else security.seal,
            Allowed(settings.allowed),
            hear=self._hear,
            persist=self._persist,
        )
        if settings.emulation is not None:
            self.carrier.links = EmulatedLinks(
                core,
                self.sky,
                self.name,
                self.utc_now_s,
                loss=settings.emulation.loss,
                chance=random.Random(secrets.randbits(64)),
            )
            log.warning("orbits are emulated", speed=settings.emulation.speed)
        await self.carrier.open(udp, tcp)
        self.address = address
        self.carrier.start()
        self._tell_time()
        self.sky.start()
        self._publish_place()
        self._tasks = [asyncio.ensure_future(self._join()), asyncio.ensure_future(self._keep_time())]
        if settings.orbit_command:
            follow = follow_command(
                settings.orbit_command,
                settings.orbit_object,
                settings.sky.mask_deg,
                settings.orbit_every_s,
                self._moved,
            )
            self._tasks.append(asyncio.ensure_future(follow))
        log.info("mesh", address=address, seeds=len(settings.seeds), keys=security is not None)

    async def close(self) -> None:
        """Say farewell, then stop. Idempotent."""
        carrier, self.carrier = self.carrier, None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self.sky.close()
        if carrier is not None:
            if carrier.core.states():
                carrier.command(Leave())
                await asyncio.sleep(_FAREWELL_S)
            await carrier.close()

    # what the node says of itself

    def say(self, section: Section, value: Capabilities | Digests | Load | Place) -> None:
        """Publish a section, if it is another than before."""
        payload = write_payload(value)
        if self.carrier is not None and self._said.get(section) != payload:
            self._said[section] = payload
            self.carrier.command(Publish(section, payload))

    def say_functions(self, digests: Sequence[str]) -> None:
        """The SHA-256, in hex, of what is deployed; as many as fit are told."""
        short = sorted(bytes.fromhex(one)[:_DIGEST_BYTES] for one in digests)
        self.say(Section.FUNCTIONS, Digests(tuple(short[:_DIGESTS_MAX]), more=len(short) > _DIGESTS_MAX))

    def say_state(self, digests: Sequence[bytes]) -> None:
        """What groups of keys this node holds, the newest first; as many as fit are told."""
        told = tuple(sorted(digests[:_DIGESTS_MAX]))
        self.say(Section.STATE, Digests(told, more=len(digests) > _DIGESTS_MAX))

    async def cross(self, to: str) -> None:
        """Emulated links: until what is sent to a node, or to the one that has this endpoint, is there.

        Raises PeerFailed where no route leads.
        """
        links = None if self.carrier is None else self.carrier.links
        if not isinstance(links, EmulatedLinks):
            return
        name = to if self.core.member(to) is not None else self._who_has(to)
        delay_s = links.delay_to(name)
        if delay_s is None:
            utc_s = self.utc_now_s()
            at_s = None if utc_s is None else self.sky.returns_at_s(self.name, name, utc_s)
            when = (
                "is not predicted"
                if at_s is None
                else f"is predicted in {at_s - (utc_s or 0.0):.0f} s of its time"
            )
            raise PeerFailed(f"no route leads to {to} now (emulated)", hint=f"contact {when}", peer=name)
        await asyncio.sleep(delay_s)

    def _who_has(self, endpoint: str) -> str:
        for name in self.core.states():
            member = self.core.member(name)
            record = None if member is None else member.records[Section.IDENTITY]
            if record is not None and record.identity is not None and endpoint in record.identity.endpoints:
                return name
        return ""

    def adopt(self, blob: bytes) -> None:
        """Take an ephemeris and spread it. Raises RecordRefused."""
        assert self.carrier is not None
        self.carrier.command(Adopt(blob))

    def is_sunlit(self) -> bool | None:
        """Whether this satellite has sun; None for what is no satellite, or while nothing is known."""
        utc_s = self.utc_now_s()
        return None if utc_s is None else sunlit(self.sky.nodes.get(self.name), utc_s)

    def report_lag(self, lag_s: float) -> None:
        """The loop stood still: our own slowness is no reason to suspect others."""
        if self.carrier is not None:
            self.carrier.command(ReportLag(lag_s))

    def _moved(self, place: tuple[float, float, float] | Elements) -> None:
        """The command says where we are."""
        if isinstance(place, Elements):
            self.settings = msgspec.structs.replace(self.settings, elements=place, place=None)
        else:
            self.settings = msgspec.structs.replace(self.settings, elements=None, place=place)
        self._publish_place()

    def _publish_place(self) -> None:
        settings = self.settings
        if settings.elements is not None:
            self.say(Section.PLACE, Place(elements=encode_elements(settings.elements)))
        elif settings.place is not None:
            latitude_deg, longitude_deg, height_m = settings.place
            self.say(
                Section.PLACE,
                Place(latitude_deg=latitude_deg, longitude_deg=longitude_deg, height_m=height_m),
            )
        mine = self.core.member(self.name)
        place = None if mine is None else mine.records[Section.PLACE]
        if place is not None:
            self.sky.take(place)
        self._watch_age()

    def _watch_age(self) -> None:
        """The node says that its own elements are old, whether they are its own or an operator's: what counts."""
        node, utc_s = self.sky.nodes.get(self.name), self.utc_now_s()
        if utc_s is None or not isinstance(node, Satellite):
            return
        verdict = DEFAULT_POLICY.verdict(node.elements, utc_s)
        if self._own_age.is_due(verdict, asyncio.get_running_loop().time()):
            log.warning(
                "this node's own elements are old",
                elements=verdict.value,
                why=DEFAULT_POLICY.note(node.elements, utc_s),
                hint="fetch newer ones: mesh.orbit, or edgeagent elements",
            )

    @property
    def core(self) -> Mesh:
        """After ``start``."""
        assert self.carrier is not None
        return self.carrier.core

    # what it hears

    def _hear(self, notice: Notice) -> None:
        match notice:
            case MemberChanged():
                self._member_changed(notice)
            case RecordChanged(record) if record.section in PLACES:
                self.sky.take(record)
            case RecordChanged(record) if record.section == Section.LOAD:
                self.load_heard_s[record.name] = asyncio.get_running_loop().time()
            case RoundTrip(name, seconds):
                self._measured(name, seconds)
            case NameTaken():
                if not self.name_taken:
                    log.error(
                        "another node writes under this node's id",
                        node=self.name,
                        hint="a state directory was copied: remove node_id and the keys from one of them",
                    )
                self.name_taken = True
            case NameFree():
                log.info("no other node writes under this node's id any more", node=self.name)
                self.name_taken = False
            case _:
                pass

    def _measured(self, name: str, round_trip_s: float) -> None:
        """A round trip against the prediction. On loopback without emulation distances are no distances."""
        utc_s = self.utc_now_s() if self._is_far else None
        distance_km = None if utc_s is None else self.sky.distance_km(self.name, name, utc_s)
        if utc_s is None or distance_km is None or not self.sky.predicts(self.name, name, utc_s):
            return
        if is_impossible(round_trip_s, distance_km) or not self.sky.reachable(self.name, name, utc_s):
            if self._contradictions.contradicted(name):
                self._distrust(name, round_trip_s, distance_km)
        else:
            self._contradictions.agrees(name)

    def _distrust(self, name: str, round_trip_s: float, distance_km: float) -> None:
        """The measurement wins; whoever has newer elements is asked for them."""
        member = self.core.member(name)
        if not self.sky.distrust(name) or member is None or self.carrier is None:
            return
        self.contradicted += 1
        log.warning(
            "measurements contradict the elements of a member: nothing is predicted of it until there are newer ones",
            member=name,
            round_trip_ms=round(round_trip_s * 1000, 3),
            predicted_km=round(distance_km),
            hint="did it manoeuvre? edgeagent elements brings new ones",
        )
        self.carrier.command(PlanChanged((name,)))
        self.carrier.command(Ask(name))

    def _member_changed(self, notice: MemberChanged) -> None:
        before = notice.before.value if notice.before else None
        after = notice.after.value if notice.after else None
        log.info("member", member=notice.name, before=before, after=after, returns_at_s=notice.returns_at_s)
        if notice.after in {None, State.DEAD, State.LEFT}:
            self.sky.forget(notice.name)
            self.load_heard_s.pop(notice.name, None)
        elif notice.before in {State.DEAD, State.LEFT} and self.carrier is not None:
            member = self.core.member(notice.name)
            for section in PLACES:
                place = None if member is None else member.records[section]
                if place is not None:
                    self.sky.take(place)

    # upkeep

    def _tell_time(self) -> None:
        utc_s = self.utc_now_s()
        offset_s = None if utc_s is None else utc_s - asyncio.get_running_loop().time()
        if self.carrier is not None:
            self.carrier.command(SetUtc(offset_s))

    async def _keep_time(self) -> None:
        while True:
            # Between two looks the core lets time run at its own pace.
            await asyncio.sleep(_CLOCK_EVERY_S if self.settings.emulation is None else _EMULATED_EVERY_S)
            self._tell_time()
            self._watch_age()

    async def _join(self) -> None:
        """Names of seeds are looked up until each was found once; the core knocks by itself from then on."""
        waiting, found = list(self.settings.seeds), list[str]()
        while waiting:
            looked_up = [(seed, await _address_of(seed)) for seed in waiting]
            waiting = [seed for seed, address in looked_up if address is None]
            new = [address for _, address in looked_up if address is not None and address != self.address]
            if new and self.carrier is not None:
                found += new
                self.carrier.command(Join(tuple(found)))
            for host, port in waiting:
                log.warning("a seed has no address", seed=f"{host}:{port}")
            if waiting:
                await asyncio.sleep(_SEED_RETRY_S)


async def _address_of(seed: tuple[str, int]) -> str | None:
    host, port = seed
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError:
        return None
    return text_of((str(found[0][4][0]), port)) if found else None
