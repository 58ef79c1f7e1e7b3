"""Recorded latencies of a function on CPU and GPU: reading and checking them.

Two CSV files with a header, ``timestamp,response_time_ms`` and perhaps ``size``: seconds, milliseconds (-1: the request
failed), bytes or whatever grows with the input. Row k of both is request k.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass

from edgeagent.accel.errors import TraceRefused
from edgeagent.accel.settings import Backend

__all__ = ["ROWS_MAX", "Traces", "read_traces"]

ROWS_MAX = 2_000_000
_COLUMNS = ("timestamp", "response_time_ms")


@dataclass(frozen=True)
class Traces:
    """Times in ms by backend, -1: failed; ``sizes`` are zeros where the files have none. All of one length."""

    cpu_ms: tuple[float, ...]
    gpu_ms: tuple[float, ...]
    sizes: tuple[float, ...]

    def ms(self, backend: Backend) -> tuple[float, ...]:
        return self.cpu_ms if backend == "cpu" else self.gpu_ms

    def __len__(self) -> int:
        """How many requests."""
        return len(self.cpu_ms)


def _number(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise TraceRefused(f"{where}: {str(text)[:40]!r} is not a number")
    return value


def _read(text: str, name: str) -> tuple[list[float], list[float] | None]:
    """(times, sizes or None) of one file."""
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), skipinitialspace=True)
    try:
        columns = [column.strip() for column in rows.fieldnames or ()]
        rows.fieldnames = columns
        missing = [column for column in _COLUMNS if column not in columns]
        if missing:
            raise TraceRefused(
                f"{name} has no column {missing[0]}", hint="the header is timestamp,response_time_ms[,size]"
            )
        times: list[float] = []
        sizes: list[float] | None = [] if "size" in columns else None
        for row in rows:
            where = f"{name}, line {rows.line_num}"
            if len(times) >= ROWS_MAX:
                raise TraceRefused(f"{name} has more than {ROWS_MAX} rows")
            if None in row:
                raise TraceRefused(f"{where}: more values than columns")
            _number(row["timestamp"], where)
            ms = _number(row["response_time_ms"], where)
            if ms < 0.0 and ms != -1.0:
                raise TraceRefused(f"{where}: a time of {ms} ms", hint="a failure is -1")
            times.append(ms)
            if sizes is not None:
                size = _number(row["size"], where)
                if size < 0.0:
                    raise TraceRefused(f"{where}: a size of {size}")
                sizes.append(size)
    except csv.Error as error:
        raise TraceRefused(f"{name} is not CSV: {error}") from None
    if not times:
        raise TraceRefused(f"{name} has no rows")
    return times, sizes


def read_traces(cpu_csv: str, gpu_csv: str) -> Traces:
    """Both files' text. Raises TraceRefused, also where their lengths or sizes differ."""
    cpu, cpu_sizes = _read(cpu_csv, "cpu.csv")
    gpu, gpu_sizes = _read(gpu_csv, "gpu.csv")
    if len(cpu) != len(gpu):
        raise TraceRefused(
            f"cpu.csv has {len(cpu)} rows and gpu.csv {len(gpu)}", hint="row k of both is request k"
        )
    for number, (one, other) in enumerate(zip(cpu_sizes or (), gpu_sizes or (), strict=False)):
        if one != other:
            raise TraceRefused(f"the sizes of request {number} differ: {one} and {other}")
    sizes = cpu_sizes or gpu_sizes or [0.0] * len(cpu)
    return Traces(tuple(cpu), tuple(gpu), tuple(sizes))
