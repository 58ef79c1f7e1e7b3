"""Removing what a guest left in its scratch directory, however deep it is."""

from __future__ import annotations

import os
import stat
from itertools import count

__all__ = ["empty_directory"]

_INNER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def empty_directory(directory: int) -> None:
    """Remove everything beneath a directory descriptor.

    What a subdirectory holds is moved up to the top, so that depth costs neither stack nor descriptors: a guest can
    nest directories deeper than Python recurses. Raises OSError when the file system refuses.
    """
    serial = count()
    while names := os.listdir(directory):
        for name in names:
            if _is_directory(name, directory):
                _flatten(name, directory, serial)
            else:
                os.unlink(name, dir_fd=directory)


def _is_directory(name: str, parent: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def _flatten(name: str, parent: int, serial: count[int]) -> None:
    """Move subdirectories up beside this directory, remove the rest, then the directory itself."""
    inner = os.open(name, _INNER, dir_fd=parent)
    try:
        for child in os.listdir(inner):  # noqa: PTH208 - a descriptor
            if _is_directory(child, inner):
                os.rename(child, _free_name(parent, serial), src_dir_fd=inner, dst_dir_fd=parent)
            else:
                os.unlink(child, dir_fd=inner)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=parent)


def _free_name(parent: int, serial: count[int]) -> str:
    """A name that the guest has not used at the top."""
    while True:
        name = f".gone-{next(serial)}"
        try:
            os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return name
