"""One place that says how wasmtime is configured, for the compile worker and for both engines.

A compiled module loads only into an engine whose compile-time settings are the same (fuel, epochs, features, target);
allocation strategy and stack size may differ, so one ``.cwasm`` serves the pooled and the on-demand engines.

A configuration that wasmtime rejects aborts the process (its C API unwraps), hence every value here is checked first:
stack sizes against ``STACK_BYTES_MAX``, pool sizes against the address space by :func:`pool_slots_that_fit`.
"""

from __future__ import annotations

import hashlib
import mmap
import platform
from importlib import metadata
from pathlib import Path
from typing import Literal

import msgspec
import wasmtime
from wasmtime import _bindings as ffi

__all__ = [
    "DEFAULT_STACK_BYTES",
    "STACK_BYTES_MAX",
    "STACK_BYTES_MIN",
    "Settings",
    "Target",
    "compile_config",
    "fingerprint",
    "on_demand_engine",
    "pool_slots_that_fit",
    "pooled_engine",
    "stack_step",
    "wheel_version",
]

Target = Literal["native", "pulley64"]

DEFAULT_STACK_BYTES = 1 << 20
STACK_BYTES_MIN = 64 << 10
STACK_BYTES_MAX = 8 << 20
# Host functions run above the guest's frames on the same (fiber or thread) stack.
HOST_STACK_BYTES = 512 << 10
# What one pool slot reserves: 4 GiB of linear memory and its 32 MiB guard (wasmtime's 64-bit defaults).
_SLOT_BYTES = (4 << 30) + (32 << 20)
_TABLES_PER_MODULE = 4
# Warm slots stay with the module that used them last: each holds what it kept resident.
_WARM_SLOTS_MAX = 64


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The compile-time settings that a function can choose."""

    fuel: bool = False
    target: Target = "native"


def stack_step(stack_bytes: int) -> int:
    """Rounds down to a power of two, so that only eight stack sizes exist and none is over its limit."""
    inside = max(STACK_BYTES_MIN, min(stack_bytes, STACK_BYTES_MAX))
    return 1 << (inside.bit_length() - 1)


def wheel_version() -> str:
    """Full version of the installed wasmtime wheel (a ``.cwasm`` itself records only the major number)."""
    return metadata.version("wasmtime")


def _cpu_features() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    lines = (line for line in text.splitlines() if line.startswith(("flags", "Features")))
    return next(lines, "")


def fingerprint(settings: Settings) -> str:
    """Names everything that decides whether machine code may be reused, beside the digest of the wasm itself."""
    features = hashlib.sha256(_cpu_features().encode()).hexdigest()[:12]
    fuel = "fuel" if settings.fuel else "nofuel"
    return f"{wheel_version()}-{platform.machine()}-{settings.target}-{fuel}-{features}-2"


def compile_config(settings: Settings) -> wasmtime.Config:
    """A fresh configuration with the compile-time settings only; wasmtime consumes it with the engine."""
    config = wasmtime.Config()
    config.epoch_interruption = True
    config.consume_fuel = settings.fuel
    config.memory_may_move = False
    # Guests get the features that today's toolchains emit, and nothing that widens the attack surface unasked.
    # Atomic instructions, which compilers emit for shared code, but no memory that two instances share. The interpreter
    # has neither.
    config.wasm_threads = settings.target != "pulley64"
    ffi.wasmtime_config_shared_memory_set(config.ptr(), False)
    config.wasm_memory64 = False
    config.wasm_multi_memory = False
    config.wasm_relaxed_simd = False
    config.wasm_gc = False
    config.wasm_function_references = False
    config.wasm_exceptions = False
    config.gc_support = False
    if settings.target == "pulley64":
        config.target = "pulley64"
    return config


def _with_stacks(config: wasmtime.Config, stack_bytes: int) -> None:
    if not STACK_BYTES_MIN <= stack_bytes <= STACK_BYTES_MAX:
        raise ValueError(f"stack_bytes {stack_bytes} outside {STACK_BYTES_MIN}..{STACK_BYTES_MAX}")
    ffi.wasmtime_config_async_stack_size_set(config.ptr(), stack_bytes + HOST_STACK_BYTES)
    config.max_wasm_stack = stack_bytes


def on_demand_engine(settings: Settings, stack_bytes: int = DEFAULT_STACK_BYTES) -> wasmtime.Engine:
    """An engine that maps memory for each instance: slower, but without bounds on tables or slots."""
    config = compile_config(settings)
    _with_stacks(config, stack_bytes)
    return wasmtime.Engine(config)


def pooled_engine(settings: Settings, slots: int, keep_resident_bytes: int) -> wasmtime.Engine:
    """An engine whose instances come from ``slots`` recycled slots.

    The first ``keep_resident_bytes`` of a slot's memory are cleared and kept at release, which saves the page faults
    of the next instance and costs about 20 us per MiB on every call.
    """
    config = compile_config(settings)
    _with_stacks(config, DEFAULT_STACK_BYTES)
    pool = ffi.wasmtime_pooling_allocation_config_new()
    try:
        ffi.wasmtime_pooling_allocation_config_total_core_instances_set(pool, slots)
        ffi.wasmtime_pooling_allocation_config_total_memories_set(pool, slots)
        ffi.wasmtime_pooling_allocation_config_total_tables_set(pool, slots * _TABLES_PER_MODULE)
        ffi.wasmtime_pooling_allocation_config_max_tables_per_module_set(pool, _TABLES_PER_MODULE)
        ffi.wasmtime_pooling_allocation_config_total_stacks_set(pool, slots)
        ffi.wasmtime_pooling_allocation_config_max_unused_warm_slots_set(pool, min(slots, _WARM_SLOTS_MAX))
        ffi.wasmtime_pooling_allocation_config_linear_memory_keep_resident_set(pool, keep_resident_bytes)
        ffi.wasmtime_pooling_allocation_config_table_keep_resident_set(pool, 4096)
        ffi.wasmtime_pooling_allocation_config_async_stack_keep_resident_set(pool, 32 << 10)
        ffi.wasmtime_pooling_allocation_strategy_set(config.ptr(), pool)
        return wasmtime.Engine(config)
    finally:
        ffi.wasmtime_pooling_allocation_config_delete(pool)


def pool_slots_that_fit(wanted: int) -> int:
    """The largest of ``wanted``, ``wanted/2``, ... whose address space this process can reserve; 0 when not even 4.

    CPUs with 39-bit addresses and RLIMIT_AS make a pool fail, and a failing pool aborts the process, so the same
    reservation is tried first with a plain mapping.
    """
    slots = wanted
    while slots >= 4:
        try:
            mmap.mmap(-1, slots * _SLOT_BYTES, flags=mmap.MAP_PRIVATE | 0x4000, prot=0).close()
        except (OSError, ValueError, OverflowError):
            slots //= 2
        else:
            return slots
    return 0
