"""Real daemons that are killed while clients write to them: started by test_state_kill.py.

This process has imported all that the daemon is made of and forks one for each kill, so that a kill costs no start of
an interpreter. Each client has a slot and writes groups to it: two small values and one in chunks, all of one number.
What was answered with 200 must be there after the next start, whole.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

import edgeagent.http.server
import edgeagent.node.node  # noqa: F401 - before the fork
from edgeagent.cli.main import main as cli

SLOTS = 3
MEMBERS = ("a", "b", "big")
HEADERS = {"Content-Type": "application/msgpack"}


def value(slot: int, number: int, member: str) -> bytes:
    size = 70_000 + number % 5 * 60_000 if member == "big" else 100 + number % 900
    return f"{number:012d}".encode() + random.Random(f"{slot} {number} {member}").randbytes(size)


class Killed:
    """One daemon, and what its clients were told."""

    def __init__(self, folder: Path, log: int) -> None:
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            os.dup2(write, 1)
            os.dup2(log, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            words = ["run", "--json", "--listen", "127.0.0.1:0", "--state-dir", str(folder / "state")]
            os._exit(cli([*words, "--exit-with-parent", "--set", f"node.cache_dir={folder / 'cache'}"]))
        os.close(write)
        self._out = os.fdopen(read)
        self.port = 0

    def ready(self) -> None:
        self.port = int(json.loads(self._out.readline())["url"].rpartition(":")[2])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._out.close()

    def group(self, line: http.client.HTTPConnection, group: dict[str, Any]) -> dict[str, Any] | None:
        """The answer; None: there was none. Another than 200 is no answer of a daemon that is well."""
        try:
            line.request("POST", "/v1/state:group", msgspec.msgpack.encode(group), HEADERS)
            reply = line.getresponse()
            data = reply.read()
        except (OSError, http.client.HTTPException):
            return None
        assert reply.status == 200, data
        found: dict[str, Any] = msgspec.msgpack.decode(data)
        return found

    def line(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)


def check(daemon: Killed, acknowledged: dict[int, int]) -> tuple[int, int]:
    """How many slots have lost what was acknowledged, and how many groups are torn."""
    lost = torn = 0
    line = daemon.line()
    for slot, number in acknowledged.items():
        done = daemon.group(line, {"ops": [{"op": "get", "key": f"{slot}/{one}"} for one in MEMBERS]})
        assert done is not None
        values = [one["value"] or b"" for one in done["results"]]
        numbers = {int(one[:12] or b"-1") for one in values}
        torn += values != [value(slot, min(numbers), one) for one in MEMBERS]
        lost += min(numbers) < number
    line.close()
    return lost, torn


def write_on(daemon: Killed, slot: int, first: int, acknowledged: dict[int, int]) -> None:
    line = daemon.line()
    for number in range(first, first + 1_000_000):
        ops = [{"op": "put", "key": f"{slot}/{one}", "value": value(slot, number, one)} for one in MEMBERS]
        if daemon.group(line, {"ops": ops}) is None:
            break
        acknowledged[slot] = number
    line.close()


def main(folder: Path, kills: int) -> None:
    chance = random.Random(kills)
    acknowledged: dict[int, int] = {}
    lost = torn = groups = 0
    log = os.open(folder / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for number in range(kills):
        daemon = Killed(folder, log)
        if number % 5 == 4:  # while it starts
            time.sleep(chance.uniform(0, 0.2))
            daemon.kill()
            continue
        daemon.ready()
        more_lost, more_torn = check(daemon, acknowledged)
        lost, torn = lost + more_lost, torn + more_torn
        told: dict[int, int] = {}
        first = number * 1_000_000
        writers = [
            threading.Thread(target=write_on, args=(daemon, slot, first, told)) for slot in range(SLOTS)
        ]
        for one in writers:
            one.start()
        time.sleep(chance.uniform(0.005, 0.1))  # when is by chance, nothing is waited for
        daemon.kill()
        for one in writers:
            one.join()
        groups += sum(last - first + 1 for last in told.values())
        acknowledged |= told
    daemon = Killed(folder, log)
    daemon.ready()
    more_lost, more_torn = check(daemon, acknowledged)
    daemon.kill()
    print(f"kills {kills} lost {lost + more_lost} torn {torn + more_torn}")  # noqa: T201 - the answer
    print(f"{groups} groups acknowledged", file=sys.stderr)  # noqa: T201
    assert groups > kills // 2


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
