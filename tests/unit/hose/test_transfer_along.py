"""Data that go along with an offer, and the end that goes along with the last data."""

from __future__ import annotations

import pytest

from edgeagent.hose.errors import FrameRefused, LinkStalled
from edgeagent.hose.frames import RESENT, Accept, Ack, Again, Data, Done, Frame, Offer, Window
from edgeagent.hose.transfer import (
    Complete,
    Effect,
    Progress,
    Receiver,
    Released,
    Run,
    Send,
    SendData,
    Sender,
)

ID, TOTAL, CHUNK, WINDOW = b"t" * 16, 1000, 100, 400


def _offer(total: int = TOTAL) -> Offer:
    return Offer(ID, 3, total, 0, total)


def _data(offset: int, flags: int = 0) -> Data:
    return Data(ID, 3, offset, CHUNK, CHUNK, flags, bytes(16))


def _pumped(sender: Sender) -> list[Effect]:
    found: list[Effect] = []
    while effects := sender.pump(0.0):
        found += effects
    return found


def _eager(total: int = TOTAL) -> Sender:
    sender = Sender(_offer(total), chunk_bytes=CHUNK, stall_s=10, ack_s=20, eager=True)
    assert sender.start(0.0) == [Send(sender.offer)]
    return sender


def test_what_nobody_has_offered_before_brings_one_frame_along() -> None:
    sender = _eager()
    assert _pumped(sender) == [SendData(0, CHUNK)]  # and no more, before the answer
    assert sender.on_message(Accept(ID, 3, 0, 300), 0.0) == []
    assert _pumped(sender) == [SendData(100, CHUNK), SendData(200, CHUNK)]


@pytest.mark.parametrize("total", [0, 1, CHUNK])
def test_what_fits_in_a_frame_comes_whole_with_its_offer(total: int) -> None:
    receiver, sender = Receiver(_offer(total), window_bytes=CHUNK, payload_bytes_max=CHUNK), _eager(total)
    assert _pumped(sender) == [SendData(0, total)] * bool(total) + [Send(Done(ID, 3, total))]
    [answer] = receiver.on_offer(receiver.offer)
    assert isinstance(answer, Send)
    if total:
        receiver.on_message(Data(ID, 3, 0, total, total, 0, bytes(16)))
        receiver.on_payload(good=True)
    assert receiver.on_message(Done(ID, 3, total)) == [Complete()]
    assert sender.on_message(answer.frame, 5.0) == []
    assert sender.deadline_s == 25.0  # the acknowledgement has its time from the answer on
    assert sender.on_message(Ack(ID, 3), 6.0) == [Released(ID)]


def test_an_offer_with_data_is_answered_in_time_too() -> None:
    sender = _eager(CHUNK)
    _pumped(sender)
    with pytest.raises(LinkStalled, match="no answer"):
        sender.on_timer(10.0)


@pytest.mark.parametrize(
    "frame",
    [
        Accept(ID, 3, CHUNK, TOTAL),  # it knows something that was never offered
        Accept(ID, 3, 0, CHUNK - 1),
        Window(ID, 3, TOTAL),  # before the answer
        Again(ID, 3, 0, CHUNK),
        Ack(ID, 3),
    ],
)
def test_a_sender_of_what_is_new_refuses(frame: Frame) -> None:
    sender = _eager()
    _pumped(sender)
    with pytest.raises(FrameRefused):
        sender.on_message(frame, 0.0)


def test_after_a_cut_the_answer_is_waited_for() -> None:
    sender = _eager()
    _pumped(sender)
    sender.on_cut()
    sender.start(1.0)
    assert sender.pump(1.0) == []
    sender.on_message(Accept(ID, 3, CHUNK, TOTAL), 1.0)
    assert sender.pump(1.0) == [SendData(CHUNK, CHUNK)]


def test_the_end_goes_along_once_and_not_before_what_was_asked_for_again() -> None:
    sender = Sender(_offer(), chunk_bytes=CHUNK, stall_s=10, ack_s=20)
    sender.start(0.0)
    sender.on_message(Accept(ID, 3, 0, TOTAL), 0.0)
    for _ in range(0, TOTAL, CHUNK):
        assert sender.finish(0.0) is None
        sender.pump(0.0)
    sender.on_message(Again(ID, 3, 0, CHUNK), 0.0)
    assert sender.finish(0.0) is None
    assert sender.pump(0.0) == [SendData(0, CHUNK, RESENT)]
    assert sender.finish(0.0) == Done(ID, 3, TOTAL)
    assert sender.finish(0.0) is None


def test_many_bytes_at_once_up_to_the_credit() -> None:
    sender = Sender(_offer(), chunk_bytes=CHUNK, stall_s=10, ack_s=20)
    sender.start(0.0)
    sender.on_message(Accept(ID, 3, 0, WINDOW), 0.0)
    assert sender.pump(0.0, 250) == [SendData(0, 250)]
    assert sender.pump(0.0, 250) == [SendData(250, WINDOW - 250)]
    assert sender.pump(0.0, 250) == []
    sender.on_message(Again(ID, 3, 100, CHUNK), 0.0)
    assert sender.pump(0.0, 250) == [SendData(100, CHUNK, RESENT)]  # of what was asked for, no more


def test_what_came_at_once_counts_like_one_frame_after_the_other() -> None:
    receiver = Receiver(_offer(), window_bytes=WINDOW, payload_bytes_max=CHUNK)
    assert receiver.run() is None
    receiver.on_offer(receiver.offer)
    assert receiver.run() == Run(0, 100, WINDOW, CHUNK)
    assert receiver.on_run(200) == [Progress(200), Send(Window(ID, 3, 600))]
    assert receiver.run() == Run(200, 300, 600, CHUNK)
    receiver.on_message(_data(200))
    assert receiver.run() is None  # its payload comes first
    receiver.on_payload(good=False)
    assert receiver.on_run(600) == [Progress(200)]  # a hole stays one
    assert receiver.verified == 200
    assert receiver.run() is None  # nor is there credit
    receiver.on_message(_data(200, flags=RESENT))
    assert receiver.on_payload(good=True) == [Progress(600), Send(Window(ID, 3, TOTAL))]
    receiver.on_run(TOTAL)
    assert receiver.run() is None
    assert receiver.on_message(Done(ID, 3, TOTAL)) == [Complete()]
    assert receiver.run() is None


@pytest.mark.parametrize(
    ("total", "run_bytes", "sent"), [(0, 50, 0), (CHUNK, 200, CHUNK), (CHUNK, 30, 30), (TOTAL, 200, CHUNK)]
)
def test_what_goes_along_at_once(total: int, run_bytes: int, sent: int) -> None:
    sender = Sender(_offer(total), chunk_bytes=CHUNK, stall_s=10, ack_s=20, eager=True)
    assert sender.is_apart
    done = sender.start_along(0.0, run_bytes)
    assert (sender.sent, sender.is_apart, sender.owes) == (sent, False, False)
    assert (done == Done(ID, 3, total), done is None) == (sent == total, sent < total)
    assert sender.is_sent is (sent == total)
    sender.on_message(Accept(ID, 3, 0, total), 0.0)
    if sent == total > 0:
        sender.on_message(Again(ID, 3, 0, total), 0.0)
        assert (sender.owes, sender.is_sent) == (True, False)
    elif sent < total:
        assert sender.pump(0.0) == [SendData(sent, min(CHUNK, total - sent))]


def test_nothing_goes_along_with_what_may_be_known() -> None:
    sender = Sender(_offer(), chunk_bytes=CHUNK, stall_s=10, ack_s=20)
    with pytest.raises(RuntimeError, match="waited for"):
        sender.start_along(0.0, 100)


def test_what_came_whole_is_acknowledged_when_it_is_offered_again() -> None:
    receiver = Receiver(_offer(), window_bytes=WINDOW, payload_bytes_max=CHUNK)
    receiver.on_whole()
    assert receiver.whole
    receiver.on_cut()
    assert receiver.on_offer(receiver.offer) == [Send(Accept(ID, 3, TOTAL, TOTAL))]
    assert receiver.on_message(Done(ID, 3, TOTAL)) == [Complete()]
    assert receiver.on_accepted() == [Send(Ack(ID, 3))]
