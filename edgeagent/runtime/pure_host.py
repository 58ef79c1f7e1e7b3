"""Defining Python host functions in a wasmtime linker, without wasmtime-py's trampoline.

That trampoline keeps a raised exception in one global, which two worker threads would take from each other. Ours raises
nothing across the library: the call notes why the guest must end, and a plain trap is returned.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import wasmtime
from wasmtime import _bindings as ffi
from wasmtime._func import Caller

from edgeagent.accel.nn_layout import NN_MODULE
from edgeagent.model import errors
from edgeagent.runtime.introspect import WASI
from edgeagent.runtime.pure_accel import ACCEL_FUNCTIONS
from edgeagent.runtime.pure_call import LOG_LINE_BYTES_MAX, StopGuest
from edgeagent.runtime.pure_hose import HOSE_FUNCTIONS
from edgeagent.runtime.pure_memory import Fault, GuestMemory
from edgeagent.runtime.pure_nn import NN_FUNCTIONS
from edgeagent.runtime.pure_state import STATE_FUNCTIONS
from edgeagent.runtime.pure_wasi import PROCESS_FUNCTIONS, Host, guarded
from edgeagent.runtime.pure_wasi_files import FILE_FUNCTIONS

__all__ = ["current", "define_host_functions", "epoch_callback"]


class _Current(threading.local):
    """The invocation that this thread runs."""

    host: Host | None = None
    store: wasmtime.Store | None = None
    memory: wasmtime.Memory | None = None


current = _Current()


def _edge_log(host: Host, level: int, ptr: int, count: int) -> None:
    try:
        host.memory.check(ptr, count)
        if host.call.wants_log():
            line = host.memory.read(ptr, min(count, LOG_LINE_BYTES_MAX))
            host.call.log.append((_signed(level), line))
    except Fault:
        host.call.failure = errors.GuestTrap(
            "edge_log was given a range outside the memory", code=None, backtrace=[]
        )
        raise StopGuest from None


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value


def _trap() -> int:
    text = ctypes.create_string_buffer(b"ended by the node")
    trap = ffi.wasmtime_trap_new(text, len(text.value))
    return int(ctypes.cast(trap, ctypes.c_void_p).value or 0)


def _callback(parameters: str, function: Callable[..., Any], *, returns: bool) -> Any:
    wide = [letter == "I" for letter in parameters]

    def enter(_env: int, caller: Any, values: Any, _count: int) -> int:
        host, store = current.host, current.store
        if host is None or store is None:
            return _trap()
        try:
            memory = current.memory or Caller(caller).get("memory")
            if not isinstance(memory, wasmtime.Memory):
                host.call.failure = errors.GuestTrap(
                    "a host function was called without an exported memory", code=None, backtrace=[]
                )
                return _trap()
            host.memory = GuestMemory(memory, store)
            args = [
                values[i].i64 if is_wide else values[i].i32 & 0xFFFFFFFF for i, is_wide in enumerate(wide)
            ]
            result = function(host, *args)
        except StopGuest:
            return _trap()
        except Exception as error:  # noqa: BLE001 - nothing may cross the library
            host.call.failure = errors.Internal(f"a host function failed: {type(error).__name__}")
            return _trap()
        if returns:
            values[0].i32 = result
        return 0

    return ffi.wasmtime_func_unchecked_callback_t(enter)


def _no_finalizer() -> Any:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)()


def _define(
    linker: wasmtime.Linker, module: str, name: str, parameters: str, results: int, callback: Any
) -> None:
    kinds = {"i": wasmtime.ValType.i32, "I": wasmtime.ValType.i64}
    kind = wasmtime.FuncType([kinds[p]() for p in parameters], [wasmtime.ValType.i32()] * results)
    module_bytes, name_bytes = module.encode(), name.encode()
    error = ffi.wasmtime_linker_define_func_unchecked(
        linker.ptr(),
        ctypes.create_string_buffer(module_bytes),
        len(module_bytes),
        ctypes.create_string_buffer(name_bytes),
        len(name_bytes),
        kind.ptr(),
        callback,
        None,
        _no_finalizer(),
    )
    if error:  # type: ignore[truthy-bool]
        raise wasmtime.WasmtimeError._from_ptr(error)


def _all_callbacks() -> list[tuple[str, str, str, int, Any]]:
    found = [("edge_log", "log", "iii", 0, _callback("iii", _edge_log, returns=False))]
    for name, (parameters, function) in HOSE_FUNCTIONS.items():
        found.append(("edge_hose", name, parameters, 1, _callback(parameters, function, returns=True)))
    for name, (parameters, function) in STATE_FUNCTIONS.items():
        found.append(("edge_state", name, parameters, 1, _callback(parameters, function, returns=True)))
    for name, (parameters, function) in ACCEL_FUNCTIONS.items():
        found.append(("edge_accel", name, parameters, 1, _callback(parameters, function, returns=True)))
    for name, (parameters, function) in NN_FUNCTIONS.items():
        found.append((NN_MODULE, name, parameters, 1, _callback(parameters, function, returns=True)))
    for name, (parameters, function) in {**PROCESS_FUNCTIONS, **FILE_FUNCTIONS}.items():
        returns = name != "proc_exit"
        found.append(
            (WASI, name, parameters, int(returns), _callback(parameters, guarded(function), returns=returns))
        )
    return found


# Kept for the life of the process: linkers hold bare pointers to them.
_CALLBACKS = _all_callbacks()


def define_host_functions(linker: wasmtime.Linker) -> None:
    """Everything that ``introspect.OFFERED`` names."""
    for module, name, parameters, results, callback in _CALLBACKS:
        _define(linker, module, name, parameters, results, callback)


_EPOCH = ctypes.CFUNCTYPE(
    ctypes.c_size_t,
    ctypes.POINTER(ffi.wasmtime_context_t),
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_uint64),
    ctypes.POINTER(ffi.wasmtime_update_deadline_kind_t),
)


def _on_epoch(_context: Any, _env: Any, delta: Any, kind: Any) -> int:
    """Each tick, on the guest's thread: go on, or end it."""
    delta[0] = 1
    kind[0] = 0
    host = current.host
    if host is None or not host.call.must_stop():
        return 0
    error = ffi.wasmtime_error_new(ctypes.create_string_buffer(b"stopped by the node"))
    return int(ctypes.cast(error, ctypes.c_void_p).value or 0)


_EPOCH_CALLBACK = _EPOCH(_on_epoch)


def epoch_callback(store: wasmtime.Store) -> None:
    """Make the current call's deadline and cancellation count in ``store``."""
    ffi.wasmtime_store_epoch_deadline_callback(store.ptr(), _EPOCH_CALLBACK, None, _no_finalizer())
    store.set_epoch_deadline(1)
