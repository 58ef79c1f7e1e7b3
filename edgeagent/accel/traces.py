"""Recorded latencies of a function on CPU and GPU: reading and checking them.

Two CSV files with a header, ``timestamp,response_time_ms`` and perhaps ``size``: seconds, milliseconds (-1: the request
failed), bytes or whatever grows with the input. Row k of both is request k, whatever its timestamp: ``remarks`` says
where those go back. Blank lines, further columns, CRLF and a byte order mark are taken; what cannot be replayed is
named by file and line.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgeagent.accel.errors import TraceRefused
from edgeagent.accel.settings import Backend

__all__ = ["MS_MAX", "ROWS_MAX", "Traces", "read_traces"]

ROWS_MAX = 2_000_000
MS_MAX = 1e12  # 31 years: sums of so many stay finite
_COLUMNS = ("timestamp", "response_time_ms")
_Row = Mapping[str, str | None]


@dataclass(frozen=True)
class Traces:
    """Times in ms by backend, -1: failed; ``sizes`` are zeros where the files have none. All of one length.

    ``remarks`` are for people: what was taken though it looks odd.
    """

    cpu_ms: tuple[float, ...]
    gpu_ms: tuple[float, ...]
    sizes: tuple[float, ...]
    remarks: tuple[str, ...] = ()

    def ms(self, backend: Backend) -> tuple[float, ...]:
        return self.cpu_ms if backend == "cpu" else self.gpu_ms

    def __len__(self) -> int:
        """How many requests."""
        return len(self.cpu_ms)


def _number(row: _Row, column: str, where: str) -> float:
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
    columns = [column.strip().casefold() for column in given]
    missing = [column for column in _COLUMNS if column not in columns]
    twice = [column for column in (*_COLUMNS, "size") if columns.count(column) > 1]
    if missing or twice:
        problem = f"has no column {missing[0]}" if missing else f"has the column {twice[0]!r} twice"
        raise TraceRefused(f"{name} {problem}", hint="the header is timestamp,response_time_ms[,size]")
    return columns


def _time_ms(row: _Row, where: str) -> float:
    ms = _number(row, "response_time_ms", where)
    if (ms < 0.0 and ms != -1.0) or ms > MS_MAX:
        raise TraceRefused(f"{where}: a time of {ms} ms", hint="a failure is -1")
    return ms


def _size(row: _Row, where: str) -> float:
    size = _number(row, "size", where)
    if size < 0.0:
        raise TraceRefused(f"{where}: a size of {size}")
    return size


def _rows(text: str, name: str) -> Iterator[tuple[str, _Row]]:
    """(where it is, row by the names of the columns) of one file, blank lines left out."""
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), skipinitialspace=True)
    try:
        rows.fieldnames = _columns(rows.fieldnames or (), name)
        for row in rows:
            where = f"{name}, line {rows.line_num}"
            if None in row:
                raise TraceRefused(f"{where}: more values than columns")
            if any(value and not value.isspace() for value in row.values()):
                yield where, row
    except csv.Error as error:
        raise TraceRefused(f"{name}, line {rows.line_num + 1}: not CSV: {error}") from None


def _read(text: str, name: str) -> tuple[list[float], list[float], str]:
    """(times, sizes or none, remark or empty) of one file."""
    times: list[float] = []
    sizes: list[float] = []
    remark, last_s = "", -math.inf
    for where, row in _rows(text, name):
        if len(times) >= ROWS_MAX:
            raise TraceRefused(f"{name} has more than {ROWS_MAX} rows")
        at_s = _number(row, "timestamp", where)
        if at_s < last_s and not remark:
            remark = f"{where}: timestamp {at_s} after {last_s}; requests are taken in the order of the rows"
        last_s = at_s
        times.append(_time_ms(row, where))
        if "size" in row:
            sizes.append(_size(row, where))
    if not times:
        raise TraceRefused(f"{name} has no rows")
    return times, sizes, remark


def read_traces(cpu_csv: str, gpu_csv: str) -> Traces:
    """Both files' text. Raises TraceRefused, also where their lengths or sizes differ."""
    cpu, cpu_sizes, cpu_remark = _read(cpu_csv, "cpu.csv")
    gpu, gpu_sizes, gpu_remark = _read(gpu_csv, "gpu.csv")
    if len(cpu) != len(gpu):
        raise TraceRefused(
            f"cpu.csv has {len(cpu)} rows and gpu.csv {len(gpu)}", hint="row k of both is request k"
        )
    for number, (one, other) in enumerate(zip(cpu_sizes, gpu_sizes, strict=False)):
        if one != other:
            raise TraceRefused(f"the sizes of request {number} differ: {one} and {other}")
    sizes = cpu_sizes or gpu_sizes or [0.0] * len(cpu)
    remarks = tuple(one for one in (cpu_remark, gpu_remark) if one)
    return Traces(tuple(cpu), tuple(gpu), tuple(sizes), remarks)
