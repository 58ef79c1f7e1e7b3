"""Runs Python where the kernel refuses a system call, as in a sandbox: ``refused_calls.py CALL ERRNO ARG ...``."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

_NUMBERS = {  # by machine
    "memfd_create": {"x86_64": 319, "aarch64": 279},
    "mremap": {"x86_64": 25, "aarch64": 216},
}
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_SECCOMP_MODE_FILTER = 2
_LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ERRNO, _ALLOW = 0x00050000, 0x7FFF0000


class _Program(ctypes.Structure):
    _fields_ = (("count", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def refuse(number: int, errno: int) -> None:
    """From now on the call fails with ``errno``, here and in every child."""
    steps = (
        (_LOAD_WORD, 0, 0, 0),  # the number of the call
        (_JUMP_EQUAL, 0, 1, number),
        (_RETURN, 0, 0, _ERRNO | errno),
        (_RETURN, 0, 0, _ALLOW),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = _Program(len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0


if __name__ == "__main__":
    refuse(_NUMBERS[sys.argv[1]][platform.machine()], int(sys.argv[2]))
    os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
