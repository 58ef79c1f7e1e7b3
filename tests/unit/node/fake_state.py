"""A StatePort that keeps all in memory, by the rules of edgeagent.state, and notes what it was asked."""

from __future__ import annotations

from edgeagent.model.errors import EdgeError
from edgeagent.state.calls import Done, Group, GroupDone, Listed, Op
from edgeagent.state.consistency import admit
from edgeagent.state.entry import Entry, Mode, entry_of
from edgeagent.state.hlc import NONE, Clock, read_version
from edgeagent.state.session import Session, read_session

__all__ = ["FakeState"]

NOW_MS = 1_795_000_000_000


class FakeState:
    """``fail``: raised by the next group, once. Keys of runs are written once, all others are lww."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.values: dict[str, bytes] = {}
        self.groups: list[tuple[Group, str, int]] = []
        self.lists: list[str] = []
        self.fail: EdgeError | None = None
        self._clock = Clock("fake")

    def set(self, key: str, value: bytes, epoch: int = 0) -> None:
        """As another caller."""
        mode = Mode.ONCE if key.startswith("runs/") else Mode.LWW
        self.entries[key] = entry_of(key, value, self._clock.next(NOW_MS), mode=mode, epoch=epoch)
        self.values[key] = value

    def writes(self) -> list[dict[str, bytes | None]]:
        """What each group that wrote something wrote."""
        wrote = [[op for op in group.ops if op.op != "get"] for group, _, _ in self.groups]
        return [{op.key: op.value for op in ops} for ops in wrote if ops]

    async def list(self, prefix: str, after: str, limit: int) -> list[Listed]:
        self.lists.append(prefix)
        keys = sorted(key for key in self.values if key.startswith(prefix) and key > after)
        return [
            Listed(key=key, version=e.version.text(), mode=e.mode, size_bytes=e.size_bytes)
            for key in keys[:limit]
            for e in [self.entries[key]]
        ]

    async def group(self, group: Group, *, run: str, epoch: int) -> GroupDone:
        self.groups.append((group, run, epoch))
        if self.fail is not None:
            error, self.fail = self.fail, None
            raise error
        admitted = [self._admitted(op) for op in group.ops]
        session = read_session(group.session)
        done = [self._done(op, entry) for op, entry in zip(group.ops, admitted, strict=True)]
        below = [] if group.prefix is None else sorted(k for k in self.values if k.startswith(group.prefix))
        done += [self._done(Op(op="get", key=key), None) for key in below]
        for one in done:
            if one.version:
                session.saw(one.key, read_version(one.version))
        least = min((one.durability for one in done), key=lambda level: level.rank, default=group.durability)
        return GroupDone(results=done, durability=least, session=Session.text(session))

    def _admitted(self, op: Op) -> Entry | None:
        if op.op == "get":
            return None
        mode = Mode.ONCE if op.key.startswith("runs/") else Mode.LWW
        expect = None if op.expect is None else read_version(op.expect) if op.expect else NONE
        wanted = entry_of(op.key, op.value, mode=mode, epoch=op.epoch)
        return admit(self.entries.get(op.key), wanted, node="fake", utc_ms=NOW_MS, expect=expect)

    def _done(self, op: Op, entry: Entry | None) -> Done:
        if op.op == "put" and entry is not None:
            self.set(op.key, op.value or b"", op.epoch)
        elif op.op == "delete":
            self.entries.pop(op.key, None)
            self.values.pop(op.key, None)
        held = self.entries.get(op.key)
        if held is None:
            return Done(key=op.key, found=False)
        same = op.op == "get" and op.known == held.version.text()
        return Done(
            key=op.key,
            found=True,
            version=held.version.text(),
            mode=held.mode,
            size_bytes=held.size_bytes,
            unchanged=same,
            value=None if same or op.op != "get" else self.values[op.key],
        )
