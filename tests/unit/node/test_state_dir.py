"""The state directory: private, locked, and the place of the node's id."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edgeagent.model.errors import Conflict, StorageFull, StoreFailed
from edgeagent.node.state_dir import StateDir


def test_an_id_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "a" / "state"
    first = StateDir(path)
    node_id = first.open()
    first.close()
    first.close()
    assert len(node_id) == 32
    assert path.stat().st_mode & 0o077 == 0
    second = StateDir(path)
    assert second.open() == node_id
    second.close()
    assert not list(path.glob(".node-id*"))


def test_a_second_holder_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    first = StateDir(tmp_path)
    first.open()
    with pytest.raises(Conflict, match=f"process {os.getpid()}"):
        StateDir(tmp_path).open()
    first.close()
    again = StateDir(tmp_path)
    again.open()
    again.close()


def test_an_id_that_is_none_is_refused_and_the_lock_let_go(tmp_path: Path) -> None:
    (tmp_path / "node-id").write_text("")
    for _ in range(2):
        with pytest.raises(StoreFailed, match="node id"):
            StateDir(tmp_path).open()


def test_a_directory_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFailed, match="cannot be used"):
        StateDir(tmp_path / "file" / "state").open()

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(StorageFull):
        StateDir(tmp_path).open()


def test_a_disk_without_room_for_our_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = StateDir(tmp_path)
    name = first.open()
    first.close()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    again = StateDir(tmp_path)
    assert again.open() == name
    with pytest.raises(Conflict):
        StateDir(tmp_path).open()
    again.close()
