"""The tables of a node's database, as the steps that lead to them.

``MIGRATIONS[n]`` takes the schema from version n to n + 1 (``PRAGMA user_version``). A released step
never changes; a change of the schema is a step more. Times are milliseconds since 1970 UTC.
"""

from __future__ import annotations

__all__ = ["MIGRATIONS"]

_FUNCTIONS = """
CREATE TABLE functions (
    name TEXT PRIMARY KEY,
    record BLOB NOT NULL            -- model.Deployed as JSON
) WITHOUT ROWID;
CREATE TABLE code_index (
    key TEXT PRIMARY KEY,           -- module, compiler, target and configuration
    sha256 TEXT NOT NULL            -- of the machine code that was made for them
) WITHOUT ROWID;
"""

# Blobs come last: SQLite reads a row from the left and stops at the last column asked for.
_INVOCATIONS = """
CREATE TABLE invocations (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    key TEXT UNIQUE,                -- Idempotency-Key
    fingerprint BLOB NOT NULL,      -- of function, body and arguments
    function TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed')),
    wall_ms REAL NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    created_ms INTEGER NOT NULL,
    finished_ms INTEGER NOT NULL DEFAULT 0,
    duration_us INTEGER NOT NULL DEFAULT 0,
    exit_code INTEGER NOT NULL DEFAULT 0,
    size_bytes INTEGER NOT NULL,
    args BLOB,                      -- JSON array of strings, NULL: the manifest's
    problem BLOB,                   -- RFC 9457 document
    input BLOB NOT NULL,            -- emptied when finished
    output BLOB NOT NULL DEFAULT x''
);
CREATE INDEX invocations_pending ON invocations (seq) WHERE state IN ('queued', 'running');
CREATE INDEX invocations_finished ON invocations (seq) WHERE state IN ('succeeded', 'failed');
CREATE INDEX invocations_finished_at ON invocations (finished_ms) WHERE state IN ('succeeded', 'failed');

-- What bounds the journal, kept by triggers: counting rows at every write would read them all.
CREATE TABLE journal_totals (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    records INTEGER NOT NULL,
    pending INTEGER NOT NULL,
    bytes INTEGER NOT NULL
);
INSERT INTO journal_totals VALUES (1, 0, 0, 0);
CREATE TRIGGER invocations_added AFTER INSERT ON invocations BEGIN
    UPDATE journal_totals SET records = records + 1, bytes = bytes + new.size_bytes,
        pending = pending + (new.state IN ('queued', 'running'));
END;
CREATE TRIGGER invocations_changed AFTER UPDATE OF state, size_bytes ON invocations BEGIN
    UPDATE journal_totals SET bytes = bytes + new.size_bytes - old.size_bytes,
        pending = pending + (new.state IN ('queued', 'running')) - (old.state IN ('queued', 'running'));
END;
CREATE TRIGGER invocations_dropped AFTER DELETE ON invocations BEGIN
    UPDATE journal_totals SET records = records - 1, bytes = bytes - old.size_bytes,
        pending = pending - (old.state IN ('queued', 'running'));
END;
"""

_WORKFLOWS = """
CREATE TABLE workflows (
    name TEXT PRIMARY KEY,
    record BLOB NOT NULL            -- model.Workflow as JSON
) WITHOUT ROWID;
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    workflow TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'succeeded', 'failed', 'timed_out')),
    role TEXT NOT NULL CHECK (role IN ('', 'origin', 'holder', 'guardian')),
    epoch INTEGER NOT NULL,         -- (epoch, version) only ever grows
    version INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    record BLOB NOT NULL
);
CREATE INDEX runs_unfinished ON runs (created_ms) WHERE state = 'running';
CREATE INDEX runs_finished ON runs (updated_ms) WHERE state <> 'running';
CREATE INDEX runs_created ON runs (created_ms);
CREATE INDEX runs_of ON runs (workflow, created_ms);
"""

MIGRATIONS: tuple[str, ...] = (_FUNCTIONS + _INVOCATIONS, _WORKFLOWS)
