"""Running one call of the pure engine: a fresh store and instance, both ABIs, typed failures."""

from __future__ import annotations

import ctypes
import mmap
import time
from collections.abc import Callable
from typing import Any

import msgspec
import wasmtime
from wasmtime import _bindings as ffi
from wasmtime._trap import Frame, FrameList

from edgeagent.model import errors
from edgeagent.runtime.guest_text import clean
from edgeagent.runtime.pure_call import PureCall, PureOutcome, PurePayload, StopGuest
from edgeagent.runtime.pure_host import current, epoch_callback
from edgeagent.runtime.pure_memory import GuestMemory
from edgeagent.runtime.pure_wasi import Host

__all__ = ["Source", "run_call"]

_TABLE_ELEMENTS_MAX = 1_000_000
_TABLES_MAX = 16
_FRAMES_MAX = 20
_NAME_MAX = 200
_VIEW_FROM_BYTES = 64 << 10
KEPT_BYTES_MIN = 32 << 10
_U32_MAX = (1 << 32) - 1

_TRAP_NAMES = {
    0: "stack overflow",
    1: "out of bounds memory access",
    2: "misaligned memory access",
    3: "out of bounds table access",
    4: "indirect call to null",
    5: "indirect call type mismatch",
    6: "integer overflow",
    7: "integer divide by zero",
    8: "invalid conversion to integer",
    9: "unreachable executed",
    10: "interrupt",
    11: "out of fuel",
}


class Source(msgspec.Struct, frozen=True):
    engine: wasmtime.Engine
    pre: wasmtime.InstancePre


class _Bad(Exception):
    """The guest broke the ABI; carries the typed error."""

    def __init__(self, error: errors.EdgeError) -> None:
        super().__init__(error.message)
        self.error = error


def run_call(source: Source, call: PureCall) -> PureOutcome:
    """Run to the end on this thread; never raises for what the guest does."""
    started = time.monotonic_ns()
    call.begin()
    host = Host(call)
    out = PureOutcome()
    current.host = host
    try:
        if call.must_stop():
            out.error = call.failure
        else:
            out.output = _run(source, call, host)
    except _Bad as bad:
        out.error = bad.error
    except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
        _settle(call, out, error)
    except MemoryError:
        out.error = errors.GuestTrap("the node is out of memory", code=None, backtrace=[])
    except Exception as error:  # noqa: BLE001 - a fault of ours must not take the worker with it
        out.error = errors.Internal(f"the engine failed: {type(error).__name__}")
    finally:
        current.host = current.store = current.memory = None
        host.files.close_all()
    out.stderr, out.log = call.stderr_tail(), call.log
    copied = call.copied_bytes + host.stdin_at
    out.hose = (int(copied > 0), copied, 0, 0)
    out.duration_us = (time.monotonic_ns() - started) // 1000
    if out.error is not None:
        out.output = b""
        if out.stderr:
            out.error.details["stderr"] = clean(out.stderr)
    elif call.keep and (call.attachments or len(out.output) >= KEPT_BYTES_MIN):
        out.payload = PurePayload(bytes(out.output), call.attachments)
        out.output = b""
    elif len(out.output) > _VIEW_FROM_BYTES:
        out.output = memoryview(out.output)
    return out


def _run(source: Source, call: PureCall, host: Host) -> bytes:
    spec = call.spec
    store = wasmtime.Store(source.engine)
    current.store = store
    try:
        store.set_limits(
            memory_size=spec.limits.memory_bytes,
            table_elements=_TABLE_ELEMENTS_MAX,
            instances=1,
            tables=_TABLES_MAX,
            memories=1,
        )
        epoch_callback(store)
        if spec.limits.fuel:
            store.set_fuel(spec.limits.fuel)
        if spec.scratch_dir:
            _open_scratch(call, host)
        exports: Any = _instantiate(source, store, call).exports(store)
        memory = exports.get("memory")
        if not isinstance(memory, wasmtime.Memory):
            raise _Bad(errors.WasmRefused("the module does not export a memory"))
        current.memory = memory
        host.memory_of = lambda: GuestMemory(memory, store)
        host.allocate = _allocator(store, exports, call)
        if (initialize := exports.get("_initialize")) is not None:
            initialize(store)
        if spec.info.abi == "command":
            exports["_start"](store)
            return bytes(call.stdout)
        return _run_bytes(store, exports, memory, call)
    finally:
        current.memory = None
        store.close()


def _allocator(store: wasmtime.Store, exports: Any, call: PureCall) -> Callable[[int], int]:
    """How a host function asks the guest for memory: -1 where it offers none; its failure ends the call."""

    def allocate(count: int) -> int:
        aligned, plain = exports.get("edge_alloc_aligned"), exports.get("edge_alloc")
        if aligned is None and plain is None:
            return -1
        try:
            if aligned is not None:
                return int(aligned(store, _signed(count), mmap.PAGESIZE)) & _U32_MAX
            return int(plain(store, _signed(count))) & _U32_MAX
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            if call.failure is None:
                call.failure = _trap(error)
            raise StopGuest from None

    return allocate


def _open_scratch(call: PureCall, host: Host) -> None:
    try:
        host.files.open_scratch(call.spec.scratch_dir, call.spec.scratch_bytes_max)
    except OSError as error:
        raise _Bad(
            errors.StorageFull(
                f"cannot make a scratch directory in {call.spec.scratch_dir}: {error.strerror}"
            )
        ) from None


def _instantiate(source: Source, store: wasmtime.Store, call: PureCall) -> wasmtime.Instance:
    try:
        return source.pre.instantiate(store)
    except wasmtime.WasmtimeError as error:
        if call.failure is not None or call.exit_code is not None:
            raise
        if "maximum concurrent" in str(error):
            raise _Bad(errors.Unavailable("every instance slot is in use")) from None
        if "os error" in str(error):  # the kernel's refusals pass, the module's do not
            raise _Bad(errors.Unavailable(f"the system has no memory or no mappings left: {error}")) from None
        raise _Bad(errors.WasmRefused(str(error).split("\n")[0])) from None


def _run_bytes(store: wasmtime.Store, exports: Any, memory: wasmtime.Memory, call: PureCall) -> bytes:
    count = len(call.body)
    if count > _U32_MAX:
        raise _Bad(errors.BadGuestOutput("the body does not fit a 32-bit memory"))
    ptr = exports["edge_alloc"](store, _signed(count)) & _U32_MAX
    view = GuestMemory(memory, store)
    if ptr + count > view.size:
        raise _Bad(
            errors.BadGuestOutput(
                f"edge_alloc({count}) returned {ptr}, outside the memory of {view.size} bytes"
            )
        )
    view.write(ptr, call.body)
    packed = exports["edge_handle"](store, _signed(ptr), _signed(count)) & ((1 << 64) - 1)
    start, size = packed >> 32, packed & _U32_MAX
    view = GuestMemory(memory, store)
    if start + size > view.size:
        raise _Bad(
            errors.BadGuestOutput(
                f"edge_handle returned {size} bytes at {start}, outside the memory of {view.size} bytes"
            )
        )
    limit = call.spec.limits.output_bytes
    if size > limit:
        raise _Bad(errors.OutputTooLarge(f"the output of {size} bytes is over the limit of {limit}"))
    return view.read(start, size)


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value


def _settle(call: PureCall, out: PureOutcome, error: Exception) -> None:
    """What ended the guest: the node, its own exit, or a trap."""
    if call.failure is not None:
        out.error = call.failure
        frames = _frames(error)
        if frames or isinstance(call.failure, errors.GuestTrap):
            call.failure.details["backtrace"] = frames
    elif call.exit_code is not None:
        out.exit_code = call.exit_code
        if call.exit_code or call.spec.info.abi == "bytes":
            out.error = errors.GuestExit(f"exit code {call.exit_code}", exit_code=call.exit_code)
        else:
            out.output = bytes(call.stdout)
    else:
        out.error = _trap(error)


def _trap(error: Exception) -> errors.EdgeError:
    if not isinstance(error, wasmtime.Trap):
        return errors.GuestTrap(
            clean(str(error).split("\n")[0].encode()), code=None, backtrace=_frames(error)
        )
    code = error.trap_code
    number = None if code is None else int(code.value)
    kind = {0: errors.StackOverflow, 11: errors.OutOfFuel}.get(
        number if number is not None else -1, errors.GuestTrap
    )
    text = error.message.split("\n")[0] if number is None else f"wasm trap: {_TRAP_NAMES.get(number, 'trap')}"
    return kind(clean(text.encode()), code=number, backtrace=_frames(error))


def _frames(error: Exception) -> list[str]:
    """The wasm backtrace of a trap or of an error that a host function caused, innermost first."""
    if isinstance(error, wasmtime.Trap):
        return [_frame(frame) for frame in error.frames[:_FRAMES_MAX]]
    if not isinstance(error, wasmtime.WasmtimeError):
        return []
    found = FrameList(error)
    ffi.wasmtime_error_wasm_trace(error.ptr(), ctypes.byref(found.vec))
    count = min(found.vec.size, _FRAMES_MAX)
    return [_frame(Frame._from_ptr(found.vec.data[i], found)) for i in range(count)]


def _frame(frame: Frame) -> str:
    name = (frame.func_name or f"<wasm function {frame.func_index}>")[:_NAME_MAX]
    offset = frame.module_offset
    return clean(name.encode()) + (f" @ 0x{offset:x}" if offset < (1 << 64) - 1 else "")
