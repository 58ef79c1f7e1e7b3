"""The two ends of a transfer, driven by hand and by chance, without sockets or clocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgeagent.hose.errors import (
    AbortCode,
    ChecksumFailed,
    FrameRefused,
    HoseFault,
    LinkStalled,
    NoRoom,
    StaleGeneration,
)
from edgeagent.hose.frames import (
    NO_ID,
    RESENT,
    Abort,
    Accept,
    Ack,
    Again,
    Data,
    Done,
    Frame,
    Offer,
    Ping,
    Window,
)
from edgeagent.hose.transfer import (
    HOLES_MAX,
    Complete,
    Effect,
    Progress,
    Receiver,
    Released,
    Send,
    SendData,
    Sender,
    Take,
    stripe_of,
)

ID, OTHER, CHECK = b"t" * 16, b"u" * 16, bytes(16)
TOTAL, CHUNK, WINDOW = 1000, 100, 400


def _offer(total: int = TOTAL, generation: int = 3) -> Offer:
    return Offer(ID, generation, total, 0, total)


def _sender(offer: Offer | None = None) -> Sender:
    return Sender(offer or _offer(), chunk_bytes=CHUNK, stall_s=10, ack_s=20)


def _receiver(offer: Offer | None = None) -> Receiver:
    return Receiver(offer or _offer(), window_bytes=WINDOW, payload_bytes_max=CHUNK)


def _data(offset: int, length: int = CHUNK, *, flags: int = 0, generation: int = 3, id_: bytes = ID) -> Data:
    return Data(id_, generation, offset, length, length, flags, CHECK)


def _receiving(taken: int = 0) -> Receiver:
    receiver = _receiver()
    receiver.on_offer(receiver.offer)
    for offset in range(0, taken, CHUNK):
        _feed(receiver, _data(offset))
    return receiver


def _feed(receiver: Receiver, frame: Data, *, good: bool = True) -> list[Effect]:
    assert receiver.on_message(frame) == [Take(frame)]
    return receiver.on_payload(good=good)


def _sending(resume: int = 0, credit: int = TOTAL) -> Sender:
    sender = _sender()
    assert sender.start(0.0) == [Send(sender.offer)]
    assert sender.on_message(Accept(ID, 3, resume, credit), 0.0) == []
    return sender


def _pumped(sender: Sender) -> list[Effect]:
    found: list[Effect] = []
    while effects := sender.pump(0.0):
        assert len(effects) == 1
        found += effects
    return found


def test_a_transfer_from_offer_to_release() -> None:
    receiver, sender = _receiver(), _sending(credit=WINDOW)
    assert receiver.on_offer(receiver.offer) == [Send(Accept(ID, 3, 0, WINDOW))]
    orders = _pumped(sender)
    assert orders == [SendData(offset, CHUNK) for offset in range(0, WINDOW, CHUNK)]
    assert _feed(receiver, _data(0)) == [Progress(100), Send(Window(ID, 3, 500))]
    sender.on_message(Window(ID, 3, 500), 0.0)
    assert sender.pump(0.0) == [SendData(400, CHUNK)]
    for offset in range(100, TOTAL, CHUNK):
        _feed(receiver, _data(offset))
    assert receiver.verified == TOTAL
    assert not receiver.whole
    sender.on_message(Window(ID, 3, TOTAL), 0.0)
    assert _pumped(sender)[-1] == Send(Done(ID, 3, TOTAL))
    assert receiver.on_message(Done(ID, 3, TOTAL)) == [Complete()]
    assert receiver.on_accepted() == [Send(Ack(ID, 3))]
    assert sender.on_message(Ack(ID, 3), 0.0) == [Released(ID)]
    assert sender.released
    assert sender.deadline_s is None


def test_nothing_can_be_transferred_too() -> None:
    receiver, sender = _receiver(_offer(0)), _sender(_offer(0))
    sender.start(0.0)
    assert receiver.on_offer(receiver.offer) == [Send(Accept(ID, 3, 0, 0))]
    sender.on_message(Accept(ID, 3, 0, 0), 0.0)
    assert _pumped(sender) == [Send(Done(ID, 3, 0))]
    assert receiver.on_message(Done(ID, 3, 0)) == [Complete()]


def test_the_last_byte_is_sent_before_the_end_is() -> None:
    sender = _sender(_offer(CHUNK + 1))
    sender.start(0.0)
    sender.on_message(Accept(ID, 3, 0, CHUNK + 1), 0.0)
    assert _pumped(sender) == [SendData(0, CHUNK), SendData(CHUNK, 1), Send(Done(ID, 3, CHUNK + 1))]


def test_a_cut_transfer_goes_on_behind_what_was_verified() -> None:
    receiver = _receiving(300)
    assert receiver.on_message(_data(300)) == [Take(_data(300))]
    receiver.on_cut()  # in the middle of a payload
    assert receiver.on_offer(receiver.offer) == [Send(Accept(ID, 3, 300, 700))]
    sender = _sending()
    _pumped(sender)
    sender.on_cut()
    sender.start(1.0)
    sender.on_message(Accept(ID, 3, 300, 700), 1.0)
    assert sender.resumed == 300
    assert sender.pump(1.0) == [SendData(300, CHUNK)]


def test_a_damaged_frame_is_asked_for_once_more() -> None:
    receiver = _receiving(100)
    assert _feed(receiver, _data(100), good=False) == [Send(Again(ID, 3, 100, 100))]
    assert _feed(receiver, _data(200)) == [Progress(100)]  # what follows still comes
    assert receiver.verified == 100
    assert _feed(receiver, _data(100, flags=RESENT))[0] == Progress(300)
    sender = _sending()
    sender.pump(0.0), sender.pump(0.0)
    assert sender.on_message(Again(ID, 3, 100, 100), 0.0) == []
    assert sender.pump(0.0) == [SendData(100, 100, RESENT)]
    assert sender.pump(0.0) == [SendData(200, 100)]
    with pytest.raises(ChecksumFailed, match="twice"):
        sender.on_message(Again(ID, 3, 100, 100), 0.0)


def test_a_frame_that_is_damaged_twice_ends_it() -> None:
    receiver = _receiving()
    _feed(receiver, _data(0), good=False)
    with pytest.raises(ChecksumFailed, match="twice"):
        _feed(receiver, _data(0, flags=RESENT), good=False)


def test_the_last_frame_can_be_the_damaged_one() -> None:
    receiver = _receiving(900)
    _feed(receiver, _data(900), good=False)
    assert receiver.on_message(Done(ID, 3, TOTAL)) == []
    assert Complete() in _feed(receiver, _data(900, flags=RESENT))
    sender = _sending()
    _pumped(sender)  # DONE is sent
    sender.on_message(Again(ID, 3, 900, 100), 0.0)
    with pytest.raises(FrameRefused):
        sender.on_message(Ack(ID, 3), 0.0)
    assert _pumped(sender) == [SendData(900, 100, RESENT)]
    assert sender.on_message(Ack(ID, 3), 0.0) == [Released(ID)]


def test_too_many_damaged_frames_are_a_broken_link() -> None:
    receiver = Receiver(_offer(), window_bytes=TOTAL, payload_bytes_max=CHUNK)
    receiver.on_offer(receiver.offer)
    for n in range(HOLES_MAX):
        _feed(receiver, _data(n * CHUNK), good=False)
    with pytest.raises(ChecksumFailed, match="more than"):
        _feed(receiver, _data(HOLES_MAX * CHUNK), good=False)


def test_a_hole_holds_the_window_back() -> None:
    receiver = _receiving()
    _feed(receiver, _data(0), good=False)
    for offset in range(100, WINDOW, CHUNK):
        assert _feed(receiver, _data(offset)) == [Progress(0)]
    for length in (1, CHUNK):
        with pytest.raises(FrameRefused, match="credit"):
            receiver.on_message(_data(WINDOW, length))


def test_a_slow_receiver_stops_the_sender() -> None:
    sender = _sending(credit=250)
    assert _pumped(sender) == [SendData(0, 100), SendData(100, 100), SendData(200, 50)]
    sender.on_timer(9.9)
    with pytest.raises(LinkStalled):
        sender.on_timer(10.0)
    sender.on_message(Window(ID, 3, 350), 9.9)
    sender.on_timer(15.0)
    assert sender.pump(15.0) == [SendData(250, 100)]


def test_an_acknowledgement_has_its_own_time() -> None:
    sender = _sending()
    _pumped(sender)
    sender.on_timer(19.9)
    with pytest.raises(LinkStalled, match="acknowledgement"):
        sender.on_timer(20.0)


@pytest.mark.parametrize(
    ("frame", "fault", "says"),
    [
        (_data(400), FrameRefused, "offset 400"),  # a gap
        (_data(200), FrameRefused, "offset 200"),  # sent before
        (_data(250), FrameRefused, "offset 250"),  # overlaps
        (_data(300, CHUNK + 1), FrameRefused, "at most"),
        (_data(300, flags=RESENT), FrameRefused, "not asked"),
        (_data(300, generation=2), StaleGeneration, "generation 2"),
        (_data(300, generation=4), StaleGeneration, "generation 4"),
        (_data(300, id_=OTHER), FrameRefused, "another transfer"),
        (Done(ID, 3, TOTAL), FrameRefused, "ends at 300"),
        (Done(ID, 3, 300), FrameRefused, "offered 1000"),
        (Done(ID, 2, TOTAL), StaleGeneration, "generation"),
        (Ack(ID, 3), FrameRefused, "out of turn"),
        (Offer(ID, 3, TOTAL, 0, TOTAL), FrameRefused, "out of turn"),
        (Ping(1), FrameRefused, "out of turn"),
        (Abort(OTHER, 1, "x"), FrameRefused, "another transfer"),
        (Abort(ID, AbortCode.STALE, "x"), StaleGeneration, "x"),
    ],
)
def test_a_receiver_refuses(frame: Frame, fault: type[HoseFault], says: str) -> None:
    receiver = _receiving(300)
    with pytest.raises(fault, match=says):
        receiver.on_message(frame)
    receiver.on_cut()
    assert receiver.verified == 300


def test_a_receiver_refuses_bytes_past_the_end() -> None:
    receiver = _receiver(_offer(250))
    receiver.on_offer(receiver.offer)
    for offset in (0, 100):
        _feed(receiver, _data(offset))
    with pytest.raises(FrameRefused, match="past the end"):
        receiver.on_message(_data(200))
    _feed(receiver, _data(200, 50))
    assert receiver.on_message(Done(ID, 3, 250)) == [Complete()]
    for late in (_data(250, 1), Done(ID, 3, 250)):
        with pytest.raises(FrameRefused, match="out of turn"):
            receiver.on_message(late)


def test_data_after_done_is_refused_while_a_hole_is_open() -> None:
    receiver = _receiving(900)
    _feed(receiver, _data(900), good=False)
    receiver.on_message(Done(ID, 3, TOTAL))
    for late in (_data(900), Done(ID, 3, TOTAL)):
        with pytest.raises(FrameRefused):
            receiver.on_message(late)


def test_an_offer_that_changed_is_refused() -> None:
    receiver = _receiver()
    with pytest.raises(FrameRefused, match="made before"):
        receiver.on_offer(_offer(TOTAL + 1))


@pytest.mark.parametrize(
    ("frame", "fault"),
    [
        (Accept(ID, 3, 0, TOTAL), FrameRefused),  # twice
        (Window(ID, 3, 100), FrameRefused),  # smaller than before
        (Window(ID, 3, TOTAL + 1), FrameRefused),
        (Window(OTHER, 3, TOTAL), FrameRefused),
        (Window(ID, 2, TOTAL), StaleGeneration),
        (Again(ID, 3, 150, 100), FrameRefused),  # not sent
        (Again(ID, 3, 0, CHUNK + 1), FrameRefused),
        (Ack(ID, 3), FrameRefused),  # before DONE
        (Done(ID, 3, TOTAL), FrameRefused),
        (Abort(OTHER, 1, ""), FrameRefused),
        (Abort(NO_ID, AbortCode.NO_ROOM, "full"), NoRoom),
    ],
)
def test_a_sender_refuses(frame: Frame, fault: type[HoseFault]) -> None:
    sender = _sending(credit=500)
    sender.pump(0.0), sender.pump(0.0)
    with pytest.raises(fault):
        sender.on_message(frame, 0.0)


@pytest.mark.parametrize(("resume", "credit"), [(TOTAL + 1, TOTAL + 1), (0, TOTAL + 1)])
def test_a_sender_does_not_go_on_past_the_end(resume: int, credit: int) -> None:
    sender = _sender()
    sender.start(0.0)
    with pytest.raises(FrameRefused, match="outside"):
        sender.on_message(Accept(ID, 3, resume, credit), 0.0)


def test_a_sender_is_asked_again_for_a_bounded_number_of_frames() -> None:
    sender = _sending()
    _pumped(sender)
    for n in range(HOLES_MAX):
        sender.on_message(Again(ID, 3, n * CHUNK, CHUNK), 0.0)
    with pytest.raises(FrameRefused, match="too much"):
        sender.on_message(Again(ID, 3, 900, CHUNK), 0.0)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: _sending().start(0.0),
        lambda: _receiving().on_offer(_offer()),
        lambda: _receiving().on_payload(good=True),
        lambda: _receiving().on_accepted(),
    ],
)
def test_misuse_is_our_own_mistake(misuse: Callable[[], object]) -> None:
    with pytest.raises(RuntimeError):
        misuse()
    receiver = _receiving()
    receiver.on_message(_data(0))
    with pytest.raises(RuntimeError):
        receiver.on_message(_data(100))


@pytest.mark.parametrize("total", [0, 1, 5, 16, 17, 1000, (1 << 40) + 1])
@pytest.mark.parametrize("stripes", [1, 2, 3, 16])
def test_stripes_cover_all_and_do_not_overlap(total: int, stripes: int) -> None:
    at = 0
    for stripe in range(stripes):
        base, length = stripe_of(total, stripes, stripe)
        assert base == at
        at += length
    assert at == total


class TwoEnds(RuleBasedStateMachine):
    """A sender and a receiver over a wire that is cut and damaged at any point; no byte is ever wrong or lost."""

    CONTENT = bytes((7 * i + i // 251) % 256 for i in range(1537))

    def __init__(self) -> None:
        super().__init__()
        offer = Offer(ID, 3, len(self.CONTENT), 0, len(self.CONTENT))
        self.sender = Sender(offer, chunk_bytes=97, stall_s=10, ack_s=10)
        self.receiver = Receiver(offer, window_bytes=300, payload_bytes_max=97)
        self.memory = bytearray(len(self.CONTENT))
        self.forth: deque[tuple[Frame, bytes | None]] = deque()
        self.back: deque[Frame] = deque()
        self.connected = False
        self.delivered = self.released = 0
        self.best = self.touched = 0

    def _carry(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(frame):
                    self.forth.append((frame, None))
                case SendData(offset, length, flags):
                    frame = Data(ID, 3, offset, length, length, flags, CHECK)
                    self.forth.append((frame, self.CONTENT[offset : offset + length]))
                case Released():
                    self.released += 1

    def _reply(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(frame):
                    self.back.append(frame)
                case Progress(verified):
                    assert verified >= self.best
                    self.best = verified
                case Complete():
                    self.delivered += 1
                    assert bytes(self.memory) == self.CONTENT
                    self._reply(self.receiver.on_accepted())

    def _cut(self) -> None:
        self.forth.clear()
        self.back.clear()
        self.sender.on_cut()
        self.receiver.on_cut()
        self.connected = False

    @precondition(lambda self: not self.connected and not self.released)
    @rule()
    def connect(self) -> None:
        self.connected = True
        self._carry(self.sender.start(0.0))

    @precondition(lambda self: self.connected)
    @rule(times=st.integers(1, 6))
    def pump(self, times: int) -> None:
        for _ in range(times):
            self._carry(self.sender.pump(0.0))

    @precondition(lambda self: self.forth)
    @rule(damage=st.sampled_from((False, False, False, True)))
    def forward(self, *, damage: bool) -> None:
        frame, payload = self.forth.popleft()
        try:
            if isinstance(frame, Offer):
                self._reply(self.receiver.on_offer(frame))
                return
            effects = self.receiver.on_message(frame)
            if payload is not None:
                assert isinstance(frame, Data)
                end = frame.offset + frame.length
                self.memory[frame.offset : end] = bytes(len(payload)) if damage else payload
                self.touched = max(self.touched, end)
                effects = self.receiver.on_payload(good=not damage)
            self._reply(effects)
        except ChecksumFailed:
            assert damage
            self._cut()

    @precondition(lambda self: self.back)
    @rule()
    def backward(self) -> None:
        self._carry(self.sender.on_message(self.back.popleft(), 0.0))

    @precondition(lambda self: self.connected)
    @rule()
    def cut(self) -> None:
        self._cut()

    @invariant()
    def what_is_verified_is_right(self) -> None:
        verified = self.receiver.verified
        assert bytes(self.memory[:verified]) == self.CONTENT[:verified]

    @invariant()
    def memory_is_bounded_by_the_window(self) -> None:
        assert self.touched <= self.best + 300

    @invariant()
    def release_means_delivery(self) -> None:
        assert self.released <= min(self.delivered, 1)

    def teardown(self) -> None:
        """On a wire without faults, everything arrives from wherever chance has left it."""
        for _ in range(500):
            if self.released:
                break
            if not self.connected:
                self.connect()
            self.pump(times=3)
            while self.forth:
                self.forward(damage=False)
            while self.back:
                self.backward()
        assert self.released == 1


TestTwoEnds = TwoEnds.TestCase
TestTwoEnds.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
