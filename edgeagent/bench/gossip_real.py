"""Groups of real processes on loopback, ours and the PyPI library kinship: one is killed, another joins.

``kinship`` is SWIM with Lifeguard in Rust. Both run with their preset for a local network and without encryption, each
member in a Python process of its own (``gossip_agent``). Both groups live from the first round to the last, so that a
hundred processes look at their members less often: looking is not what is measured.
"""

from __future__ import annotations

import importlib.util
import itertools
import random
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from edgeagent.bench.harness import Bench, Case, CaseSkipped, Sample, Sampler
from edgeagent.bench.processes import ServerFailed

__all__ = ["Group", "real_case"]

PEER = "kinship"
_MEET_S, _MEET_EACH_S = 90.0, 5.0
_LOOK_S, _LOOK_MANY_S = 0.005, 0.05
_MANY = 32
_TOO_LONG = "too long for a run of 5 minutes; choose the case with --case, or use --full"
_GONE = frozenset({"dead", "left", "gone"})


class Group:
    """Members of one library. ``held`` is what each says of the others, with the time at which it began."""

    def __init__(self, which: str, count: int, chance: random.Random) -> None:
        self._which = which
        self._look_s = _LOOK_S if count < _MANY else _LOOK_MANY_S
        self._chance = chance
        self._numbers = itertools.count()
        self._selector = selectors.DefaultSelector()
        self._rest: dict[str, bytes] = {}
        self._members: dict[str, subprocess.Popen[bytes]] = {}
        self.held: dict[str, dict[str, tuple[bool, float]]] = {}
        self._seed = ""
        try:
            for _ in range(count):
                self._start()
            self._wait(lambda: all(self._knows(one, self._members) for one in self._members), "meet")
        except BaseException:
            self.close()
            raise

    def round(self) -> Sample:
        """Kill one and wait until all others hold it dead, then let another join; seconds until half of them knew."""
        victim = self._chance.choice(
            [one for one in self._members if one != "m0"]
        )  # m0 is who others join by
        process = self._members.pop(victim)
        at_s = time.monotonic()
        process.kill()
        process.wait()
        self._wait(lambda: all(self._misses(one, victim) for one in self._members), f"miss {victim}")
        detected = sorted(self.held[one][victim][1] - at_s for one in self._members)
        at_s = time.monotonic()
        new = self._start()
        others = [one for one in self._members if one != new]
        self._wait(lambda: all(self._knows(one, [new]) for one in others), f"meet {new}")
        joined = sorted(self.held[one][new][1] - at_s for one in others)
        self._forget(victim)
        more = {
            "first_s": detected[0],
            "everybody_s": detected[-1],
            "join_half_s": joined[len(joined) // 2],
            "join_everybody_s": joined[-1],
        }
        return detected[len(detected) // 2], more

    def close(self) -> None:
        for process in self._members.values():
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        self._selector.close()

    def _start(self) -> str:
        name = f"m{next(self._numbers)}"
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "edgeagent.bench.gossip_agent",
                self._which,
                name,
                str(self._look_s),
                self._seed,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
        self._members[name] = process
        self.held[name] = {}
        self._rest[name] = b""
        assert process.stdout is not None
        address = process.stdout.readline().decode().strip() if not self._seed else ""
        if not self._seed and not address:
            raise ServerFailed(f"a member of {self._which} did not start")
        self._seed = self._seed or address
        self._selector.register(process.stdout, selectors.EVENT_READ, name)
        return name

    def _forget(self, name: str) -> None:
        for held in self.held.values():
            held.pop(name, None)

    def _knows(self, one: str, names: Any) -> bool:
        return all(self.held[one].get(name, (False, 0.0))[0] for name in names if name != one)

    def _misses(self, one: str, name: str) -> bool:
        return not self.held[one].get(name, (True, 0.0))[0]

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        within_s = max(_MEET_S, _MEET_EACH_S * len(self._members))
        end_s = time.monotonic() + within_s
        while not done():
            if time.monotonic() > end_s:
                raise ServerFailed(f"the members of {self._which} did not {what} in {within_s:g} s")
            for key, _ in self._selector.select(1.0):
                self._read(str(key.data), key.fileobj)  # type: ignore[arg-type]

    def _read(self, name: str, stream: IO[bytes]) -> None:
        data = stream.read1(65_536)  # type: ignore[attr-defined]
        if not data:
            self._selector.unregister(stream)
            stream.close()
            if name in self._members:
                raise ServerFailed(f"a member of {self._which} ended by itself")
            return
        *lines, self._rest[name] = (self._rest[name] + data).split(b"\n")
        for line in lines:
            words = line.decode().split()
            if len(words) != 3:
                continue  # the address of one that joined
            at_s, other, state = float(words[0]), words[1], words[2]
            is_there = state not in _GONE
            if self.held[name].get(other, (None, 0.0))[0] is not is_there:
                self.held[name][other] = is_there, at_s


def _environment() -> dict[str, str]:
    import os

    package = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": ":".join(filter(None, (package, os.environ.get("PYTHONPATH"))))}


def _opener(count: int) -> Any:
    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        if count >= _MANY and not bench.options.full and not bench.options.is_choice:
            raise CaseSkipped(_TOO_LONG)
        kinds = ["ours"]
        if importlib.util.find_spec(PEER) is None:
            bench.skip(f"{PEER} in detect-real-{count}", f"not installed: pip install {PEER}")
        else:
            kinds.append(PEER)
        groups: list[Group] = []
        try:
            seed = f"{bench.options.seed}/{count}"
            groups.extend(Group(kind, count, random.Random(f"{seed}/{kind}")) for kind in kinds)
            yield {kind: group.round for kind, group in zip(kinds, groups, strict=True)}
        finally:
            for group in groups:
                group.close()

    return opened


def real_case(count: int, rounds: tuple[int, int]) -> Case:
    return Case(
        name=f"detect-real-{count}",
        unit="s",
        better="lower",
        open=_opener(count),
        params={"processes": count, "preset": "lan"},
        rounds=rounds[0],
        rounds_full=rounds[1],
        warm_up_rounds=0,
        memory_bytes=count * (64 << 20),  # a member of either library
    )
