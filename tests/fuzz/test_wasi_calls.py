"""Any sequence of WASI calls with any arguments: both engines give the same answers, and neither leaves anything open.

The invariant: every call is answered by an error number, the guest comes to its end, the scratch directory is wiped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeagent.runtime.open_engine import open_engine
from edgeagent.runtime.port import Engine, Function
from tests.conftest import engine_names
from tests.contract.calls import load
from tests.contract.wasi_calls import Program, WasiCall, encode, guest, parse
from tests.descriptors import left_open, open_descriptors

# What is compared: below this, results go whose value does not depend on time, chance or inode numbers.
COMPARED_BYTES = 4096
MEMORY_BYTES = 4 << 16
PATHS = (
    b"a",
    b"b",
    b"d",
    b"d/a",
    b"d/d",
    b"l",
    b"d/l/",
    b".",
    b"..",
    b"../x",
    b"/",
    b"/a",
    b"",
    b"a\0b",
    b"\xff/",
    b"x" * 300,
)
TARGETS = (b"a", b"d", b"..", b"l", b"d/../a")

_layout = Program()
PATHS_AT = [_layout.text(path) for path in (*PATHS, *TARGETS)]
VECTORS_AT = [
    _layout.vector(1024, 5),
    _layout.vector(1024, 3000),
    _layout.vector(0, 0),
    _layout.vector(MEMORY_BYTES - 1, 1),
    _layout.vector(MEMORY_BYTES - 1, 2),
    _layout.vector(0xFFFFFFFF, 0xFFFFFFFF),
]
SUBSCRIPTIONS_AT = _layout.data(
    struct.pack("<QB7xI4xQ8xH6x", 7, 0, 1, 0, 0)
    + struct.pack("<QB7xI4xQ8xH6x", 8, 1, 0, 0, 0)
    + struct.pack("<QB7xI4xQ8xH6x", 9, 2, 4, 0, 0)
    + struct.pack("<QB7xI4xQ8xH6x", 9, 0, 2, 0, 0)
    + struct.pack("<QB7xI4xQ8xH6x", 9, 3, 1, 0, 0)
)
IMAGE = bytes(_layout.image)

_hostile = st.sampled_from([MEMORY_BYTES - 1, MEMORY_BYTES, 0x7FFFFFFF, 0xFFFFFFFF])
_kinds: dict[str, st.SearchStrategy[tuple[int, ...]]] = {
    "F": st.sampled_from([0, 2, 3, 4, 5, 6, 77, 0xFFFFFFFF]).map(lambda n: (n,)),
    "C": st.sampled_from([2, 3, 4, 5, 6, 77]).map(lambda n: (n,)),  # not the streams that answers go through
    "W": (st.sampled_from([256, 264, 272]) | _hostile).map(lambda n: (n,)),
    "X": (st.sampled_from([8192, 8448]) | _hostile).map(lambda n: (n,)),  # answers that are not compared
    "S": st.sampled_from(PATHS_AT) | st.tuples(_hostile, st.sampled_from([0, 1, 5000])),
    "V": st.tuples(st.sampled_from(VECTORS_AT) | _hostile, st.sampled_from([0, 1, 2, 1025])),
    "N": st.sampled_from([0, 1, 5, 4096, 1 << 20, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]).map(
        lambda n: (n,)
    ),
    "G": st.integers(0, 15).map(lambda n: (n,)),
    "R": st.sampled_from([0, 2, 64, 66, (1 << 30) - 1]).map(lambda n: (n,)),
    "L": st.sampled_from([0, 1, 24, 3000, 0xFFFFFFFF]).map(lambda n: (n,)),
}
SHAPES = {
    "args_get": "XX", "args_sizes_get": "XX", "environ_get": "XX", "environ_sizes_get": "WW",
    "clock_res_get": "GX", "clock_time_get": "GNX", "random_get": "XL", "sched_yield": "",
    "fd_advise": "FNNG", "fd_allocate": "FNN", "fd_close": "C", "fd_datasync": "F", "fd_fdstat_get": "FW",
    "fd_fdstat_set_flags": "FG", "fd_fdstat_set_rights": "FRR", "fd_filestat_get": "FX", "fd_filestat_set_size": "FN",
    "fd_filestat_set_times": "FNNG", "fd_pread": "FVNW", "fd_prestat_get": "FW", "fd_prestat_dir_name": "FWL",
    "fd_pwrite": "FVNW", "fd_read": "FVW", "fd_readdir": "FXLNX", "fd_renumber": "CC", "fd_seek": "FNGW",
    "fd_sync": "F", "fd_tell": "FW", "fd_write": "CVW", "path_create_directory": "FS", "path_filestat_get": "FGSX",
    "path_filestat_set_times": "FGSNNG", "path_link": "FGSFS", "path_open": "FGSGRRGW", "path_readlink": "FSWLW",
    "path_remove_directory": "FS", "path_rename": "FSFS", "path_symlink": "SFS", "path_unlink_file": "FS",
    "sock_accept": "FGW", "sock_recv": "FVGWW", "sock_send": "FVGW", "sock_shutdown": "FG",
}  # fmt: skip


def _call(name: str) -> st.SearchStrategy[WasiCall]:
    parts = [_kinds[kind] for kind in SHAPES[name]]
    return st.tuples(*parts).map(lambda groups: (name, tuple(n for group in groups for n in group)))


_poll = st.tuples(
    st.just(SUBSCRIPTIONS_AT) | _hostile, st.just(8192) | _hostile, st.integers(0, 5), st.just(256) | _hostile
).map(lambda args: ("poll_oneoff", args))
# Half of what is opened can be used: else most sequences would only be refused.
_useful_open = st.sampled_from(PATHS_AT[:5]).map(lambda path: ("path_open", (3, 1, *path, 1, 66, 0, 0, 256)))
_calls = st.lists(
    st.sampled_from(sorted(SHAPES)).flatmap(_call) | _useful_open | _poll, min_size=1, max_size=30
)


@pytest.fixture(scope="module")
def guests(
    compiled: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[Function, Path]]]:
    engines: list[Engine] = []
    loaded = {}
    for name in engine_names():
        engines.append(open_engine(name, workers=1, small_slots=4, large_slots=4))  # type: ignore[arg-type]
        scratch = tmp_path_factory.mktemp(name)
        function = load(engines[-1], compiled, guest(), scratch_dir=str(scratch), scratch_bytes_max=1 << 24)
        loaded[name] = (function, scratch)
    yield loaded
    for engine in engines:
        engine.close()


@settings(max_examples=150)
@given(calls=_calls)
@example(calls=[("fd_close", (3,)), ("path_open", (3, 0, *PATHS_AT[0], 1, 66, 0, 0, 256))])
def test_engines_agree(guests: dict[str, tuple[Function, Path]], calls: list[WasiCall]) -> None:
    program = struct.pack("<Q", len(IMAGE)) + IMAGE + encode(calls)
    answers = {}
    for name, (function, scratch) in guests.items():
        before = open_descriptors()
        outcome = function.call(program)
        assert outcome.error is None, (name, outcome.error)
        found = parse(outcome, len(calls))
        answers[name] = (found.errnos, found.memory[:COMPARED_BYTES])
        assert list(scratch.iterdir()) == []
        assert left_open(before) == []
    assert all(answer == answers["pure"] for answer in answers.values())
