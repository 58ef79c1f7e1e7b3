"""Forgetting a copy: only when as many others as there are to be copies have just said that they hold one.

While a node asks to be released from a key it answers nobody that it holds it. So of all nodes that forget a key, the
one that asked last was answered by nodes that had not begun to ask: these still hold it, whatever the others did. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from edgeagent.state.desk import Desk, bits_of, has_bit
from edgeagent.state.effects import Look, MayDrop
from edgeagent.state.entry import Entry
from edgeagent.state.hlc import NONE, Version
from edgeagent.state.messages import Name, Refusal, Release, Released
from edgeagent.state.obligations import Bundle

__all__ = ["Releasing"]


_ROUNDS_MAX = 5  # then the copy stays, until it is asked for again


class _Round(msgspec.Struct):
    bundle: Bundle
    names: tuple[Name, ...]
    open: int
    votes: dict[str, int]


class Releasing:
    """``again(bundle)``: not enough of them hold it (any more); ``over(bundle)``: it was forgotten."""

    def __init__(self, desk: Desk, again: Callable[[Bundle], None], over: Callable[[Bundle], None]) -> None:
        self._desk = desk
        self._again = again
        self._over = over
        self._leaving: dict[str, int] = {}  # keys that are asked about, or being dropped; how often

    @property
    def leaving(self) -> int:
        return len(self._leaving)

    def begin(self, bundle: Bundle) -> None:
        """All of its holders have taken it once: ask them."""
        names = bundle.names
        turn = _Round(bundle, names, len(bundle.holders), {key: 0 for key, _ in names})
        for key, _ in names:
            self._leaving[key] = self._leaving.get(key, 0) + 1
        holders = tuple(sorted(bundle.holders))
        for peer in holders:
            request = Release(self._desk.number(), names, self._desk.copies, holders)
            self._desk.ask(peer, request, Released, partial(self._voted, turn, peer))

    def _voted(self, turn: _Round, peer: str, reply: Released | None) -> None:
        turn.open -= 1
        is_good = reply is not None and not reply.refused
        for place, (key, _) in enumerate(turn.names):
            if is_good and reply is not None and has_bit(reply.held, place):
                turn.votes[key] += 1
            else:
                turn.bundle.holders.pop(peer, None)  # ask it to take it once more
        if turn.open:
            return
        bundle = turn.bundle
        # What was written here meanwhile is not what the others hold.
        safe = tuple(
            (key, version)
            for key, version in turn.names
            if turn.votes[key] >= bundle.copies and bundle.versions.get(key) == version and not bundle.is_over
        )
        for key, _ in turn.names:
            if key not in {key for key, _ in safe}:
                self._stay(key)
        if safe:
            self._desk.counts["released"] += len(safe)
            self._desk.emit(MayDrop(self._desk.token(lambda: self._dropped(safe)), safe))
            for key, _ in safe:
                bundle.versions.pop(key, None)
        bundle.rounds += 1
        if bundle.versions and not bundle.is_over and bundle.rounds < _ROUNDS_MAX:
            bundle.tries += 1
            self._again(bundle)
        else:
            self._over(bundle)

    def _stay(self, key: str) -> None:
        left = self._leaving.get(key, 0) - 1
        if left > 0:
            self._leaving[key] = left
        else:
            self._leaving.pop(key, None)

    def _dropped(self, names: Sequence[Name]) -> None:
        for key, _ in names:
            self._stay(key)

    def asked(
        self, peer: str, release: Release, keeps: Callable[[str, Release, Sequence[Name]], None]
    ) -> None:
        """Another node would forget. ``keeps(peer, release, names)`` hears of what this one answers for now."""
        keys = tuple(key for key, _ in release.names)

        def looked(entries: Sequence[Entry] | None, _missing: Sequence[bytes]) -> None:
            if entries is None:
                self._desk.reply(peer, Released(release.ask, refused=Refusal.STORE))
                return
            held: dict[str, Version] = {entry.key: entry.version for entry in entries if not entry.deleted}
            flags = [
                held.get(key, NONE) >= version and version != NONE and key not in self._leaving
                for key, version in release.names
            ]
            keeps(peer, release, [name for name, flag in zip(release.names, flags, strict=True) if flag])
            self._desk.reply(peer, Released(release.ask, bits_of(flags), self._desk.is_ground))

        self._desk.emit(Look(self._desk.token(looked), keys, ()))
