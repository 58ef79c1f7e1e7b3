"""A process that uses edgeagent.hose.client as it is told: one command a line on standard input, one answer a line.

Run as a script: hose_client.py SOCKET NAME ROLE. Answers are ``ok ...`` or the name of an exception.
"""

from __future__ import annotations

import sys
import zlib

from edgeagent.hose.client import Hose, Loan, Taken


class Driver:
    def __init__(self, hose: Hose) -> None:
        self.hose = hose
        self.loans: list[Loan] = []
        self.taken: list[Taken] = []

    def loan(self, size: str) -> object:
        self.loans.append(self.hose.loan(int(size)))
        return self.loans[-1].data.nbytes

    def fill(self, value: str) -> object:
        data = self.loans[-1].data
        data[:] = bytes([int(value)]) * data.nbytes
        return data.nbytes

    def publish(self, size: str, timeout_s: str = "20") -> object:
        seq = self.loans[-1].publish(int(size), float(timeout_s))
        self.loans.pop()
        return seq

    def take(self, timeout_s: str = "20") -> object:
        self.taken.append(self.hose.take(float(timeout_s)))
        data = self.taken[-1].data
        return f"{data.nbytes} {zlib.crc32(data)}"

    def release(self) -> object:
        self.taken.pop(0).release()
        return ""

    def close(self) -> object:
        self.hose.close()
        return ""


def say(answer: str) -> None:
    sys.stdout.write(answer + "\n")
    sys.stdout.flush()


def main() -> None:
    path, name, role = sys.argv[1:]
    assert role in {"producer", "consumer"}
    driver = Driver(Hose.attach(path, name, role))  # type: ignore[arg-type]
    say("ok")
    for line in sys.stdin:
        command, *arguments = line.split()
        try:
            answer = f"ok {getattr(driver, command)(*arguments)}".strip()
        except (OSError, ValueError, BufferError) as error:
            answer = type(error).__name__
        say(answer)


if __name__ == "__main__":
    main()
