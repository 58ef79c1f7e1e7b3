"""The engine port, scratch directories: what a command can do there, and what it cannot do to anything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeagent.runtime.port import Engine, Function
from tests.contract.calls import load
from tests.contract.wasi_calls import Program, guest
from tests.descriptors import left_open, open_descriptors

BADF, EXIST, INVAL, ISDIR, LOOP, MFILE, NOENT, NOSPC, NOTDIR, NOTEMPTY, PERM, SPIPE, NOTCAPABLE = (
    8, 20, 28, 31, 32, 33, 44, 51, 54, 55, 63, 70, 76,
)  # fmt: skip
CREAT, DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8
APPEND = 1
QUOTA = 100_000
NAME = 4096  # what a name costs

Load = Callable[..., Function]


@pytest.fixture
def scratch(engine: Engine, compiled: Any, tmp_path: Path) -> Load:
    def load_guest(quota: int = QUOTA) -> Function:
        return load(engine, compiled, guest(), scratch_dir=str(tmp_path), scratch_bytes_max=quota)

    return load_guest


def test_write_seek_read_stat(scratch: Load, tmp_path: Path) -> None:
    p = Program()
    p.open("note", create=True)
    p.write(4, b"hello world")
    p.call("fd_seek", 4, -5, 2, 16)
    p.read(4, 32, 100)
    p.call("fd_tell", 4, 24)
    p.call("fd_filestat_get", 4, 128)
    p.call("path_filestat_get", 3, 1, *p.text("note"), 256)
    answers = p.run(scratch())
    assert set(answers.errnos) == {0}
    assert answers.u32(0) == 4
    assert (answers.u64(16), answers.u64(24)) == (6, 11)
    assert answers.memory[32:37] == b"world"
    for at in (128, 256):
        assert (answers.memory[at + 16], answers.u64(at + 24), answers.u64(at + 32)) == (4, 1, 11)
    assert list(tmp_path.iterdir()) == [], "wiped"


def test_reads_and_writes_at_an_offset_leave_the_position(scratch: Load) -> None:
    p = Program()
    p.open("a", create=True)
    p.write(4, b"0123456789")
    p.call("fd_pwrite", 4, p.vector(p.data(b"xy"), 2), 1, 4, 8)
    p.call("fd_pread", 4, p.vector(32, 4), 1, 3, 8)
    p.call("fd_tell", 4, 24)
    answers = p.run(scratch())
    assert set(answers.errnos) == {0}
    assert answers.memory[32:36] == b"3xy6"
    assert answers.u64(24) == 10


def test_directories_are_listed_in_order(scratch: Load) -> None:
    p = Program()
    p.call("path_create_directory", 3, *p.text("d"))
    p.open("b", create=True)
    p.call("path_symlink", *p.text("b"), 3, *p.text("c"))
    p.call("fd_readdir", 3, 512, 4000, 0, 8)
    p.call("fd_readdir", 3, 4800, 30, 4, 16)
    answers = p.run(scratch())
    assert set(answers.errnos) == {0}
    found, at = [], 512
    while at < 512 + answers.u32(8):
        size = answers.u32(at + 16)
        found.append((answers.memory[at + 24 : at + 24 + size], answers.memory[at + 20]))
        at += 24 + size
    assert found == [(b".", 3), (b"..", 3), (b"b", 4), (b"c", 7), (b"d", 3)]
    assert answers.u32(16) == 25, "from the cookie on: the last entry alone"


def test_appending(scratch: Load) -> None:
    p = Program()
    p.open("a", create=True, flags=APPEND)
    p.write(4, b"one")
    p.call("fd_seek", 4, 0, 0, 16)
    p.write(4, b"two")
    p.call("fd_fdstat_set_flags", 4, 0)
    p.call("fd_seek", 4, 0, 0, 16)
    p.write(4, b"ONE")
    p.call("fd_fdstat_set_flags", 4, APPEND)
    p.write(4, b"end")
    p.call("fd_pread", 4, p.vector(32, 20), 1, 0, 8)
    answers = p.run(scratch())
    assert set(answers.errnos) == {0}
    assert answers.memory[32:41] == b"ONEtwoend"


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "d/../../x", "up/x", "out", "deep/../../../etc/passwd", "/", ".."]
)
def test_no_path_leads_out(scratch: Load, path: str) -> None:
    p = Program()
    p.call("path_create_directory", 3, *p.text("d"))
    p.call("path_create_directory", 3, *p.text("deep"))
    p.call("path_symlink", *p.text("../.."), 3, *p.text("up"))
    p.call("path_symlink", *p.text("../../../../../../../../etc/passwd"), 3, *p.text("out"))
    p.open(path, follow=True)
    p.open(path, create=True, follow=True)
    p.call("path_filestat_get", 3, 1, *p.text(path), 64)
    answers = p.run(scratch())
    assert answers.errnos[:4] == (0, 0, 0, 0)
    assert set(answers.errnos[4:]) <= {PERM, ISDIR, EXIST}
    assert PERM in answers.errnos[4:]


def test_links_out_of_the_directory_are_not_made_or_followed(scratch: Load) -> None:
    p = Program()
    p.call("path_symlink", *p.text("/etc/passwd"), 3, *p.text("absolute"))
    p.call("path_symlink", *p.text("../../../../etc/passwd"), 3, *p.text("relative"))
    p.call("path_link", 3, 1, *p.text("relative"), 3, *p.text("hard"))
    p.open("hard", follow=True)
    p.open("relative")
    p.call("path_readlink", 3, *p.text("relative"), 64, 100, 8)
    p.call("path_filestat_set_times", 3, 1, *p.text("relative"), 0, 0, 5)
    answers = p.run(scratch())
    assert answers.errnos == (PERM, 0, 0, PERM, LOOP, 0, 0)
    assert answers.memory[64 : 64 + answers.u32(8)] == b"../../../../etc/passwd"
    assert Path("/etc/passwd").stat().st_mtime != 0, "the link's own time was set"


def test_what_is_refused(scratch: Load) -> None:
    p = Program()
    p.open("file", create=True)
    p.call("path_create_directory", 3, *p.text("dir"))
    p.call("path_create_directory", 3, *p.text("dir/inner"))
    expected = [0, 0, 0]

    def refused(errno: int, name: str, *args: int) -> None:
        expected.append(errno)
        p.call(name, *args)

    refused(NOENT, "path_unlink_file", 3, *p.text("nothing"))
    refused(ISDIR, "path_unlink_file", 3, *p.text("dir"))
    refused(NOTEMPTY, "path_remove_directory", 3, *p.text("dir"))
    refused(NOTDIR, "path_remove_directory", 3, *p.text("file"))
    refused(EXIST, "path_create_directory", 3, *p.text("dir"))
    refused(INVAL, "path_create_directory", 3, *p.text("."))
    refused(PERM, "path_create_directory", 3, *p.text("dir/.."))
    refused(NOENT, "path_create_directory", 3, *p.text(""))
    refused(INVAL, "path_create_directory", 3, *p.text("a\0b"))
    refused(EXIST, "path_open", 3, 0, *p.text("file"), CREAT | EXCL, 66, 0, 0, 0)
    refused(NOTDIR, "path_open", 3, 0, *p.text("file"), DIRECTORY, 66, 0, 0, 0)
    refused(ISDIR, "path_open", 3, 0, *p.text("dir"), TRUNC, 66, 0, 0, 0)
    refused(NOTDIR, "path_open", 3, 0, *p.text("file/x"), CREAT, 66, 0, 0, 0)
    refused(NOTDIR, "path_open", 4, 0, *p.text("x"), CREAT, 66, 0, 0, 0)
    refused(NOTDIR, "path_open", 1, 0, *p.text("x"), CREAT, 66, 0, 0, 0)
    refused(BADF, "path_open", 77, 0, *p.text("x"), CREAT, 66, 0, 0, 0)
    refused(NOENT, "path_rename", 3, *p.text("nothing"), 3, *p.text("file"))
    refused(ISDIR, "path_rename", 3, *p.text("file"), 3, *p.text("dir"))
    refused(ISDIR, "fd_read", 3, p.vector(32, 4), 1, 8)
    refused(SPIPE, "fd_seek", 0, 0, 0, 8)
    refused(INVAL, "fd_seek", 4, 0, 3, 8)
    refused(INVAL, "fd_seek", 4, -1, 0, 8)
    refused(INVAL, "fd_pread", 4, p.vector(32, 4), 1, -1, 8)
    refused(BADF, "fd_renumber", 4, 9)
    errnos = p.run(scratch()).errnos
    wrong = [
        (call, got, want) for call, got, want in zip(p.calls, errnos, expected, strict=True) if got != want
    ]
    assert not wrong


def test_opened_for_reading_alone_cannot_be_written(scratch: Load) -> None:
    p = Program()
    p.open("a", create=True)
    p.call("path_open", 3, 0, *p.text("a"), 0, 2, 0, 0, 0)
    p.write(5, b"x")
    p.call("fd_filestat_set_size", 5, 10)
    p.call("fd_allocate", 5, 0, 10)
    p.call("path_open", 3, 0, *p.text("a"), 0, 64, 0, 0, 0)
    p.read(6, 32, 4)
    answers = p.run(scratch())
    assert answers.errnos == (0, 0, BADF, BADF, BADF, 0, BADF)


def test_descriptors_are_bounded_and_numbers_used_again(scratch: Load) -> None:
    p = Program()
    p.open("a", create=True)
    for _ in range(260):
        p.call("path_open", 3, 0, *p.text("a"), 0, 2, 0, 0, 0)
    p.call("fd_close", 100)
    p.call("path_open", 3, 0, *p.text("a"), 0, 2, 0, 0, 0)
    answers = p.run(scratch())
    opened = answers.errnos[1:261]
    assert set(opened) == {0, MFILE}
    assert opened.count(0) == 256 - 5
    assert answers.errnos[-2:] == (0, 0)
    assert answers.u32(0) == 100


# -- the quota ----------------------------------------------------------------------------------------------------


def test_every_way_to_grow_a_file_is_charged(scratch: Load) -> None:
    ways: list[tuple[str, Callable[[Program], None]]] = [
        ("write", lambda p: p.call("fd_write", 4, p.vector(0, QUOTA), 1, 8)),
        ("pwrite", lambda p: p.call("fd_pwrite", 4, p.vector(0, 4096), 1, QUOTA, 8)),
        ("set size", lambda p: p.call("fd_filestat_set_size", 4, QUOTA)),
        ("allocate", lambda p: p.call("fd_allocate", 4, 1, QUOTA)),
    ]
    for name, way in ways:
        p = Program()
        p.open("a", create=True)
        way(p)
        assert p.run(scratch()).errnos == (0, NOSPC), name


def test_appending_at_an_offset_is_charged(scratch: Load) -> None:
    p = Program()
    p.open("a", create=True, flags=APPEND)
    for _ in range(30):  # Linux appends, whatever pwrite says
        p.call("fd_pwrite", 4, p.vector(0, 4096), 1, 0, 8)
    p.call("fd_filestat_get", 4, 64)
    answers = p.run(scratch())
    assert NOSPC in answers.errnos
    assert answers.u64(64 + 32) <= QUOTA


def test_links_are_charged_as_names(scratch: Load) -> None:
    p = Program()
    p.open("a", create=True)
    for i in range(30):
        p.call("path_link", 3, 0, *p.text("a"), 3, *p.text(f"l{i}"))
    for i in range(10):
        p.call("path_unlink_file", 3, *p.text(f"l{i}"))
    for i in range(10):
        p.call("path_link", 3, 0, *p.text("a"), 3, *p.text(f"l{i}"))
    p.call("path_link", 3, 0, *p.text("nothing"), 3, *p.text("x"))
    errnos = p.run(scratch()).errnos
    assert errnos[:31].count(0) == QUOTA // NAME
    assert set(errnos[31:51]) == {0}
    assert errnos[51] in (NOENT, NOSPC)


def test_a_hole_is_charged_as_if_it_were_full(scratch: Load) -> None:
    p = Program()
    p.open("a", create=True)
    p.call("fd_seek", 4, QUOTA, 0, 16)
    p.write(4, b"x")
    assert p.run(scratch()).errnos == (0, 0, NOSPC)


def test_sizes_beyond_63_bits_are_refused(scratch: Load) -> None:
    p = Program()
    p.open("a", create=True)
    p.call("fd_filestat_set_size", 4, 1 << 63)
    p.call("fd_allocate", 4, (1 << 64) - 1, 2)
    p.call("fd_pwrite", 4, p.vector(p.data(b"x"), 1), 1, (1 << 63) - 1, 8)
    answers = p.run(scratch())
    assert answers.errnos[:3] == (0, INVAL, INVAL)
    assert answers.errnos[3] in (INVAL, NOSPC)


def test_what_is_given_up_can_be_used_again(scratch: Load) -> None:
    p = Program()
    size = QUOTA - 3 * NAME
    for i in range(3):
        p.open("a", create=True)
        p.call("fd_filestat_set_size", 4 + i, size)
        p.call("fd_filestat_set_size", 4 + i, 10)
        p.call("fd_allocate", 4 + i, 0, size)
        p.call("path_open", 3, 0, *p.text("a"), TRUNC, 66, 0, 0, 0)
        p.call("fd_close", 5 + i)
        p.call("fd_allocate", 4 + i, 0, size)
        p.call("fd_close", 4 + i)
        p.call("path_unlink_file", 3, *p.text("a"))
        p.call("path_create_directory", 3, *p.text("d"))
        p.call("path_remove_directory", 3, *p.text("d"))
        p.call("path_symlink", *p.text("x"), 3, *p.text("s"))
        p.call("path_unlink_file", 3, *p.text("s"))
        p.open("hold", create=True)
    assert set(p.run(scratch()).errnos) == {0}


def test_an_unlinked_file_is_charged_until_it_is_closed(scratch: Load) -> None:
    p = Program()
    size = QUOTA - 3 * NAME
    p.open("a", create=True)
    p.call("fd_allocate", 4, 0, size)
    p.call("path_unlink_file", 3, *p.text("a"))
    p.open("b", create=True)
    p.call("fd_allocate", 5, 0, size)
    p.call("fd_close", 4)
    p.call("fd_allocate", 5, 0, size)
    assert p.run(scratch()).errnos == (0, 0, 0, 0, NOSPC, 0, 0)


def test_renaming_over_a_file_gives_back_what_it_held(scratch: Load) -> None:
    p = Program()
    size = QUOTA - 4 * NAME
    for name in ("a", "b"):
        p.open(name, create=True)
    p.call("fd_allocate", 4, 0, size)
    p.call("fd_close", 4)
    p.call("path_rename", 3, *p.text("b"), 3, *p.text("a"))
    p.call("fd_allocate", 5, 0, size)
    p.call("path_rename", 3, *p.text("a"), 3, *p.text("a"))
    p.call("fd_allocate", 5, 0, size + NAME)
    assert set(p.run(scratch()).errnos) == {0}


def test_names_are_charged(scratch: Load) -> None:
    for make in ("path_create_directory", "path_symlink"):
        p = Program()
        for i in range(30):
            name = p.text(f"n{i}")
            if make == "path_symlink":
                p.call(make, *p.text("x"), 3, *name)
            else:
                p.call(make, 3, *name)
        errnos = p.run(scratch()).errnos
        assert errnos.count(0) == QUOTA // NAME
        assert set(errnos) == {0, NOSPC}


# -- leaving nothing behind ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what", ["close the root", "renumber the root", "leave files open", "truncate a directory"]
)
def test_no_descriptor_stays_open(scratch: Load, tmp_path: Path, what: str) -> None:
    p = Program()
    p.open("a", create=True)
    if what == "close the root":
        p.call("fd_close", 3)
    elif what == "renumber the root":
        p.call("fd_renumber", 4, 3)
    elif what == "leave files open":
        for _ in range(5):
            p.open("a")
    else:
        p.call("path_open", 3, 0, *p.text("."), DIRECTORY | TRUNC, 66, 0, 0, 0)
    function = scratch()
    p.run(function)
    before = open_descriptors()
    for _ in range(5):
        p.run(function)
    assert left_open(before) == []
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_stream_was_is_closed_too(scratch: Load) -> None:
    p = Program()
    p.open("a", create=True)
    p.call("fd_renumber", 4, 2)
    function = scratch()
    p.run(function)
    before = open_descriptors()
    p.run(function)
    assert left_open(before) == []


def test_a_tree_deeper_than_any_recursion_is_wiped(scratch: Load, tmp_path: Path) -> None:
    p = Program()
    levels = 1300
    at, _ = p.text("d/" * 2000)
    for level in range(levels):
        p.call("path_create_directory", 3, at, 2 * level + 1)
    p.call("path_create_directory", 3, *p.text(".gone-0"))
    p.call("path_open", 3, 0, *p.text(".gone-1"), CREAT, 66, 0, 0, 0)
    p.call("path_open", 3, 0, at, 2 * levels - 1, DIRECTORY, 2, 0, 0, 0)
    p.call("path_open", 5, 0, *p.text("leaf"), CREAT, 66, 0, 0, 0)
    answers = p.run(scratch(quota=100 << 20))
    assert set(answers.errnos) == {0}
    assert list(tmp_path.iterdir()) == []
