"""One SQLite file: opening and checking it, and running a group of callers in one transaction.

What a caller may rely on (``run_group``):

1. A caller's statements happen all or not at all, whatever the others of its group do (a savepoint each).
2. Success is reported after COMMIT, which with ``synchronous=FULL`` returns after the fsync of the
   write-ahead log.
3. When the transaction as a whole fails, every caller is tried again alone, so that one that does not
   fit takes nobody with it. A caller may therefore run more than once: it must touch nothing but its
   connection.
4. When an fsync fails, nobody knows what the disk holds; nothing may be reported as written from then on
   (:class:`SyncLost`).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgeagent.model.errors import EdgeError, StorageFull, StoreFailed

__all__ = [
    "READ_ONLY_HINT",
    "DamagedStore",
    "DiskFull",
    "Failure",
    "ReadOnly",
    "SyncLost",
    "Work",
    "open_reader",
    "open_writer",
    "run_group",
    "typed",
]

Work = Callable[[sqlite3.Connection], Any]

APPLICATION_ID = 0x45444745  # "EDGE"
BUSY_TIMEOUT_S = 5.0
# The log is cut back to this after a checkpoint; between two it may be as large as a group of writes.
WAL_BYTES_KEPT = 16 << 20
# A group waits for the checkpoint behind its commit, so few of them; a log of so many pages is within what is kept.
CHECKPOINT_PAGES = 4000
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# The second: the index of the write-ahead log, a file of its own, found no room.
_FULL_CODES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
READ_ONLY_HINT = "reads go on, and writes as soon as it can be written again; the system's log says why"
_SYNC_CODES = (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)


class SyncLost(StoreFailed):
    """An fsync failed: what the disk holds is unknown until the file has been opened and checked again."""


class DiskFull(StorageFull):
    """There is no space left where the file lies; nothing was written."""


class ReadOnly(StoreFailed):
    """The file system is read-only, or has become so: nothing was written, and what is there can be read."""

    slug = "store-read-only"


class DamagedStore(StoreFailed):
    """The file is not a sound database any more."""


class Failure:
    """What a caller gets instead of a value."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


def open_writer(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    """Open, check and migrate ``path``; raises StoreFailed for a file that is damaged, foreign or too new."""
    connection: sqlite3.Connection | None = None
    try:
        _make_private(path)
        connection = _connect(path)
        # Only effective while the file is still empty; what eviction frees can then be given back.
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise StoreFailed(
                f"state database {path} cannot use a write-ahead log (journal_mode is {mode})",
                hint="put node.state_dir on a local file system; network file systems do not work",
            )
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA journal_size_limit={WAL_BYTES_KEPT}")
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        _check(connection, path)
        _empty_log(connection)
        _migrate(connection, path, migrations)
    except (sqlite3.Error, EdgeError) as error:
        if connection is not None:
            connection.close()
        raise _at_open(error, path) from None
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection to a migrated file that cannot write."""
    try:
        connection = _connect(path)
        connection.execute("PRAGMA query_only=ON")
    except sqlite3.Error as error:
        raise _at_open(error, path) from None
    return connection


def run_group(connection: sqlite3.Connection, group: Sequence[Work]) -> list[Any]:
    """Run the callers in one transaction; a value or a :class:`Failure` for each, in their order."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        results = [_in_savepoint(connection, work) for work in group]
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        failure = typed(error)
        if not _rolled_back(connection) or isinstance(failure, SyncLost):
            return [Failure(typed(error)) for _ in group]
        if len(group) == 1:
            return [Failure(failure)]
        return [result for work in group for result in run_group(connection, [work])]
    return results


def typed(error: sqlite3.Error) -> EdgeError:
    """The typed error of one of SQLite's."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code in _FULL_CODES:
        return DiskFull("the disk under the state directory is full", hint="free space; nothing was written")
    if code in _SYNC_CODES:
        return SyncLost(
            f"the disk did not confirm a write ({error})", hint="check the disk, then restart the node"
        )
    if code & 0xFF in _DAMAGED:
        return DamagedStore(f"the state database is damaged: {error}", hint="stop the node, and repair it")
    return StoreFailed(f"the state database refused: {error}")


def _in_savepoint(connection: sqlite3.Connection, work: Work) -> Any:
    connection.execute("SAVEPOINT caller")
    try:
        result = work(connection)
    except Exception as error:  # noqa: BLE001 - whatever a caller raises is its answer, not the group's
        if not connection.in_transaction:
            # SQLite gave up the whole transaction (a full disk does that), the others' work with it.
            raise (
                error if isinstance(error, sqlite3.Error) else sqlite3.OperationalError(str(error))
            ) from None
        connection.execute("ROLLBACK TO caller")
        result = Failure(typed(error) if isinstance(error, sqlite3.Error) else error)
    connection.execute("RELEASE caller")
    return result


def _rolled_back(connection: sqlite3.Connection) -> bool:
    if not connection.in_transaction:
        return True
    try:
        connection.execute("ROLLBACK")
    except sqlite3.Error:
        return False
    return True


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.text_factory = _text
    return connection


def _text(raw: bytes) -> str:
    """Of a damaged row, too: what is no UTF-8 is that row's affair, and not that of all that are read with it."""
    return raw.decode("utf-8", "surrogateescape")


def _make_private(path: Path) -> None:
    """The file is for its owner alone; SQLite gives the files beside it the same mode."""
    if str(path) == ":memory:":  # SQLite's name for no file
        return
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(name).chmod(0o600)
    except OSError:
        return  # SQLite says better what is wrong with it


def _check(connection: sqlite3.Connection, path: Path) -> None:
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if owner not in (0, APPLICATION_ID) or (owner == 0 and tables):
        raise StoreFailed(
            f"state database {path} belongs to another program", hint="choose another node.state_dir"
        )
    # All of the file is read for this: where it is sound, once.
    if connection.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
        _mend_indexes(connection, path)


def _mend_indexes(connection: sqlite3.Connection, path: Path) -> None:
    """A damaged index of a sound table hides rows; it holds nothing of its own, and is made anew."""
    finding = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if finding != "ok":
        raise _damaged(path, str(finding))
    try:
        connection.execute("REINDEX")
    except sqlite3.IntegrityError as error:  # of two rows with one key, one is damaged
        raise _damaged(path, str(error)) from None
    finding = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if finding != "ok":
        raise _damaged(path, str(finding))


def _empty_log(connection: sqlite3.Connection) -> None:
    """What a crash has left in the log goes to its place, so that what a life finds there is of one life before."""
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) in _SYNC_CODES:
            raise
        return  # a full disk, or one that cannot be written: it stays where it is


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(migrations):
        raise StoreFailed(
            f"state database {path} has schema {version}, this edgeagent knows up to {len(migrations)}",
            hint="run the newer edgeagent that wrote it, or choose another node.state_dir",
        )
    for number in range(version, len(migrations)):
        connection.executescript(
            f"BEGIN IMMEDIATE; {migrations[number]}"
            f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={number + 1}; COMMIT;"
        )


def _damaged(path: Path, finding: str) -> DamagedStore:
    return DamagedStore(
        f"state database {path} is damaged: {finding}",
        hint=f"stop the node, move {path} and its -wal and -shm files away (keep them), and start again or "
        "restore a copy; deployed functions and unfinished invocations are in this file",
    )


def _at_open(error: sqlite3.Error | EdgeError, path: Path) -> EdgeError:
    if isinstance(error, EdgeError):
        return error
    code = getattr(error, "sqlite_errorcode", 0)
    if code & 0xFF in _DAMAGED:
        return _damaged(path, str(error))
    if code in _FULL_CODES:
        return typed(error)
    return StoreFailed(
        f"state database {path} cannot be opened: {error}", hint="check the directory's owner, mode and disk"
    )
