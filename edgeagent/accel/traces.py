"""Recorded latencies of a function on CPU and GPU: reading and checking them.

Two CSV files with a header, ``timestamp,response_time_ms`` and perhaps ``size``: seconds, milliseconds (-1: the request
failed), bytes or whatever grows with the input. Row k of both is request k, so timestamps must not go back. Blank
lines, CRLF and a byte order mark are taken; what cannot be replayed is named by file and line.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeagent.accel.errors import TraceRefused
from edgeagent.accel.settings import Backend

__all__ = ["MS_MAX", "ROWS_MAX", "Traces", "read_traces"]

ROWS_MAX = 2_000_000
MS_MAX = 1e12  # 31 years: sums of so many stay finite
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


def _number(row: Mapping[str, str | None], column: str, where: str) -> float:
    text = row[column]
    if text is None:
        raise TraceRefused(f"{where}: no {column}", hint="every row has all columns")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise TraceRefused(f"{where}: {text[:40]!r} is not a number")
    return value


def _columns(given: Sequence[str], name: str) -> list[str]:
    columns = [column.strip() for column in given]
    missing = [column for column in _COLUMNS if column not in columns]
    twice = [column for column in columns if columns.count(column) > 1]
    if missing or twice:
        problem = f"has no column {missing[0]}" if missing else f"has the column {twice[0][:40]!r} twice"
        raise TraceRefused(f"{name} {problem}", hint="the header is timestamp,response_time_ms[,size]")
    return columns


def _time_ms(row: Mapping[str, str | None], where: str) -> float:
    ms = _number(row, "response_time_ms", where)
    if (ms < 0.0 and ms != -1.0) or ms > MS_MAX:
        raise TraceRefused(f"{where}: a time of {ms} ms", hint="a failure is -1")
    return ms


def _read(text: str, name: str) -> tuple[list[float], list[float] | None]:
    """(times, sizes or None) of one file."""
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), skipinitialspace=True)
    try:
        rows.fieldnames = columns = _columns(rows.fieldnames or (), name)
        times: list[float] = []
        sizes: list[float] | None = [] if "size" in columns else None
        last_s = -math.inf
        for row in rows:
            where = f"{name}, line {rows.line_num}"
            if len(times) >= ROWS_MAX:
                raise TraceRefused(f"{name} has more than {ROWS_MAX} rows")
            if None in row:
                raise TraceRefused(f"{where}: more values than columns")
            at_s = _number(row, "timestamp", where)
            if at_s < last_s:
                raise TraceRefused(
                    f"{where}: timestamp {at_s} after {last_s}",
                    hint="rows are in the order of their requests",
                )
            last_s = at_s
            times.append(_time_ms(row, where))
            if sizes is not None:
                size = _number(row, "size", where)
                if size < 0.0:
                    raise TraceRefused(f"{where}: a size of {size}")
                sizes.append(size)
    except csv.Error as error:
        raise TraceRefused(f"{name}, line {rows.line_num + 1}: not CSV: {error}") from None
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
