"""What a piece of work costs besides time: CPU time and minor faults, of this process and of others that take part."""

from __future__ import annotations

import resource
import time
from pathlib import Path

__all__ = ["Cost"]

# A process' CPU-time clock, as clock_getcpuclockid(3) makes it: the complement of the id, then CPUCLOCK_SCHED.
_CPU_CLOCK_SCHED = 2


class Cost:
    """Counts from its making until :meth:`spent`. ``pids`` are other processes, which must run until then."""

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self._faults = self._faults_now()
        self._cpu_ns = self._cpu_ns_now()
        self._begun_ns = time.perf_counter_ns()

    def spent(self, times: int = 1) -> tuple[float, dict[str, float]]:
        """Wall time in ms, then ``cpu_ms`` of all threads and ``minor_faults``; each over ``times`` repetitions."""
        wall_ns = time.perf_counter_ns() - self._begun_ns
        cpu_ns = self._cpu_ns_now() - self._cpu_ns
        faults = self._faults_now() - self._faults
        return wall_ns / 1e6 / times, {"cpu_ms": cpu_ns / 1e6 / times, "minor_faults": faults / times}

    def _cpu_ns_now(self) -> int:
        return time.process_time_ns() + sum(
            time.clock_gettime_ns(~pid << 3 | _CPU_CLOCK_SCHED) for pid in self._pids
        )

    def _faults_now(self) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt + sum(map(_minor_faults, self._pids))


def _minor_faults(pid: int) -> int:
    # proc(5): fields are counted from the last parenthesis, since the name may hold blanks; minflt is the tenth.
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[7])
