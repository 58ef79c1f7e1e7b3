"""edge_state without the extension: the same calls with the same answers, always by copy.

The twin of native/state/call_state.cpp; error numbers are those of sdk/edge_state.h.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgeagent.runtime.port import AskKind
from edgeagent.runtime.pure_memory import Fault
from edgeagent.state.guest_layout import VERSION_BYTES, Code
from edgeagent.state.keys import KEY_BYTES_MAX

if TYPE_CHECKING:
    from edgeagent.runtime.pure_wasi import Host

__all__ = ["STATE_FUNCTIONS"]

_I32_MAX = (1 << 31) - 1
_Data = bytes | memoryview


class _Refused(Exception):
    """The call's result is an error."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def _ready(function: Callable[..., int]) -> Callable[..., int]:
    def checked(host: Host, *args: int) -> int:
        if host.allocate is None:  # a start function is running, and there is nothing to work on yet
            return Code.BAD
        try:
            return function(host, *args)
        except Fault:
            return Code.RANGE
        except _Refused as refused:
            return refused.code

    return checked


def _text(host: Host, ptr: int, count: int) -> bytes:
    if count > KEY_BYTES_MAX:
        raise _Refused(Code.BAD)
    return host.memory.read(ptr, count)


def _room(host: Host, ptr: int, cap: int) -> None:
    if cap:
        host.memory.check(ptr, cap)


def _value(host: Host, ptr: int, count: int) -> bytes:
    host.memory.check(ptr, count)
    if count > _I32_MAX:
        raise _Refused(Code.TOO_LARGE)
    host.call.copied_bytes += count
    return host.memory.read(ptr, count)


def _ask(
    host: Host, kind: AskKind, key: bytes, *, extra: bytes = b"", flags: int = 0, data: bytes | None = None
) -> tuple[int, _Data | None]:
    call = host.call
    call.told = call.reply = None
    if call.asked is None:
        raise _Refused(Code.OFF)
    return call.ask(kind, name=key, slot=flags, data=data, extra=extra)


def _asked(host: Host, kind: AskKind, key: bytes, **more: bytes) -> _Data:
    """The answer of an ask that is for bytes."""
    status, data = _ask(host, kind, key, extra=more.get("extra", b""), data=more.get("data"))
    if status < 0 or data is None:
        raise _Refused(status if status < 0 else Code.FAILED)
    return data


def _deliver(host: Host, data: _Data, ptr: int, cap: int) -> int:
    if len(data) > _I32_MAX:
        return Code.TOO_LARGE
    if len(data) <= cap:
        host.memory.write(ptr, data)
        host.call.copied_bytes += len(data)
    return len(data)


def get(host: Host, key: int, key_count: int, ptr: int, cap: int) -> int:
    name = _text(host, key, key_count)
    _room(host, ptr, cap)
    told = host.call.told
    if told is not None and told[0] == name and len(told[1]) <= cap:
        host.call.told = None
        return _deliver(host, told[1], ptr, cap)
    data = _asked(host, AskKind.STATE_GET, name)
    count = _deliver(host, data, ptr, cap)
    if count > cap:
        host.call.told = (name, data)
    return count


def put(host: Host, key: int, key_count: int, ptr: int, count: int, flags: int) -> int:
    name = _text(host, key, key_count)
    data = _value(host, ptr, count)
    signed = flags - (1 << 32) if flags >> 31 else flags
    return _ask(host, AskKind.STATE_PUT, name, flags=signed, data=data)[0]


def delete(host: Host, key: int, key_count: int) -> int:
    return _ask(host, AskKind.STATE_DELETE, _text(host, key, key_count))[0]


def list_after(host: Host, prefix: int, prefix_count: int, after: int, after_count: int, *buffer: int) -> int:
    name, last = _text(host, prefix, prefix_count), _text(host, after, after_count)
    _room(host, *buffer)
    return _deliver(host, _asked(host, AskKind.STATE_LIST, name, extra=last), *buffer)


def list_(host: Host, prefix: int, prefix_count: int, ptr: int, cap: int) -> int:
    return list_after(host, prefix, prefix_count, 0, 0, ptr, cap)


def cas(host: Host, key: int, key_count: int, version: int, ptr: int, count: int) -> int:
    name = _text(host, key, key_count)
    expect = _text(host, version, VERSION_BYTES).split(b"\0", 1)[0]
    data = _value(host, ptr, count)
    status, now = _ask(host, AskKind.STATE_CAS, name, extra=expect, data=data)
    if now is not None:  # the version that the key has now
        _write_version(host, now, version)
    return status


def _write_version(host: Host, text: _Data, ptr: int) -> None:
    host.memory.write(ptr, bytes(text[: VERSION_BYTES - 1]).ljust(VERSION_BYTES, b"\0"))


def _take_reply(host: Host, out: int, cap: int) -> int:
    reply = host.call.reply
    if reply is None:
        return Code.BAD
    count = _deliver(host, reply, out, cap)
    if count <= cap:
        host.call.reply = None
    return count


def group(host: Host, ptr: int, count: int, out: int, cap: int) -> int:
    _room(host, out, cap)
    if not count:
        return _take_reply(host, out, cap)
    data = _value(host, ptr, count)
    # It is done then, and is not done again for a buffer that is too small.
    host.call.reply = _asked(host, AskKind.STATE_GROUP, b"", data=data)
    return _take_reply(host, out, cap)


def version(host: Host, key: int, key_count: int, ptr: int, cap: int) -> int:
    name = _text(host, key, key_count)
    _room(host, ptr, cap)
    text = _asked(host, AskKind.STATE_VERSION, name)
    if cap >= VERSION_BYTES:
        _write_version(host, text, ptr)
        return len(text)
    return _deliver(host, text, ptr, cap)


# name -> (parameters, function); i = i32
STATE_FUNCTIONS: dict[str, tuple[str, Callable[..., int]]] = {
    "get": ("iiii", _ready(get)),
    "put": ("iiiii", _ready(put)),
    "delete": ("ii", _ready(delete)),
    "list": ("iiii", _ready(list_)),
    "list_after": ("iiiiii", _ready(list_after)),
    "cas": ("iiiii", _ready(cas)),
    "group": ("iiii", _ready(group)),
    "version": ("iiii", _ready(version)),
}
