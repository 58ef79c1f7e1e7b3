"""What a module imports and exports, which ABI it speaks, and what it wants that we do not offer."""

from __future__ import annotations

from typing import Any

import wasmtime

from edgeagent.accel.nn_layout import NN_MODULE, NN_PARAMETERS
from edgeagent.model.errors import WasmRefused
from edgeagent.model.function import Abi, Export, Import, ModuleInfo
from edgeagent.model.wasm_sections import Sections

__all__ = ["OFFERED", "WASI", "module_info"]

WASI = "wasi_snapshot_preview1"
_WASI_NAMES = (
    "args_get",
    "args_sizes_get",
    "environ_get",
    "environ_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_get",
    "fd_prestat_dir_name",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "sched_yield",
    "random_get",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
)
_HOSE_NAMES = (
    "recv_info",
    "recv",
    "loan",
    "publish",
    "map",
    "release",
    "open",
    "close",
    "accept",
    "send",
)
_STATE_NAMES = ("get", "put", "delete", "list", "list_after", "cas", "group", "version")
OFFERED: frozenset[tuple[str, str]] = frozenset(
    {("edge_log", "log")}
    | {("edge_hose", name) for name in _HOSE_NAMES}
    | {("edge_state", name) for name in _STATE_NAMES}
    | {("edge_accel", name) for name in ("call", "query")}
    | {(NN_MODULE, name) for name in NN_PARAMETERS}
    | {(WASI, name) for name in _WASI_NAMES}
)

# Descriptions are kept in the registry and shown to people: what needs more was not made by a compiler.
ITEMS_MAX = 10_000
NAMES_BYTES_MAX = 1 << 20

_PAGE_BYTES = 65536
_HANDLE = (["i32", "i32"], ["i64"])
_ALLOC = (["i32"], ["i32"])
_ALIGNED = (["i32", "i32"], ["i32"])


def module_info(module: wasmtime.Module, *, sha256: str, size_bytes: int, sections: Sections) -> ModuleInfo:
    """Describe a compiled module. The ABI is chosen by what it exports: ``bytes`` before ``command``.

    Raises WasmRefused when there is more of it than a description may hold.
    """
    imports = tuple(Import(item.module, item.name or "") for item in module.imports)
    types = {item.name: item.type for item in module.exports}
    _check_size(imports, types)
    memory = types.get("memory")
    abi, why = _abi(types)
    low = high = None
    if isinstance(memory, wasmtime.MemoryType):
        low, high = memory.limits.min, memory.limits.max
    return ModuleInfo(
        sha256=sha256,
        size_bytes=size_bytes,
        abi=abi,
        why_no_abi=why,
        imports=imports,
        exports=tuple(_export(name, kind) for name, kind in types.items()),
        unknown_imports=tuple(item for item in imports if (item.module, item.name) not in OFFERED),
        memory_min_bytes=(low or 0) * _PAGE_BYTES,
        memory_max_bytes=None if high is None else high * _PAGE_BYTES,
        has_start=sections.has_start,
        data_end_bytes=sections.data_end_bytes,
    )


def _check_size(imports: tuple[Import, ...], types: dict[str, Any]) -> None:
    if len(imports) > ITEMS_MAX or len(types) > ITEMS_MAX:
        raise WasmRefused(
            f"{len(imports)} imports and {len(types)} exports; at most {ITEMS_MAX} of each are taken"
        )
    size = sum(len(i.module) + len(i.name) for i in imports) + sum(len(name) for name in types)
    if size > NAMES_BYTES_MAX:
        raise WasmRefused(
            f"the names of its imports and exports have {size} characters; at most {NAMES_BYTES_MAX} are taken"
        )


def _signature(kind: Any) -> tuple[list[str], list[str]] | None:
    if not isinstance(kind, wasmtime.FuncType):
        return None
    return [str(t) for t in kind.params], [str(t) for t in kind.results]


def _abi(types: dict[str, Any]) -> tuple[Abi | None, str]:
    memory = types.get("memory")
    if not isinstance(memory, wasmtime.MemoryType):
        return None, "it does not export a memory named 'memory'"
    if memory.is_shared:
        return None, "its memory is to be shared with other threads, and a function has one"
    # Engines call it without checks, so that its type must be right.
    if "edge_alloc_aligned" in types and _signature(types["edge_alloc_aligned"]) != _ALIGNED:
        return None, (
            "its edge_alloc_aligned is not (i32, i32) -> (i32), "
            f"but {_text(_signature(types['edge_alloc_aligned']))}"
        )
    if "_initialize" in types and _signature(types["_initialize"]) != ([], []):
        return None, f"its _initialize is not () -> (), but {_text(_signature(types['_initialize']))}"
    alloc, handle = _signature(types.get("edge_alloc")), _signature(types.get("edge_handle"))
    if alloc == _ALLOC and handle == _HANDLE:
        return "bytes", ""
    if "edge_handle" in types or "edge_alloc" in types:
        return None, (
            "a bytes function exports edge_alloc: (i32) -> (i32) and edge_handle: (i32, i32) -> (i64); "
            f"this one has edge_alloc: {_text(alloc)} and edge_handle: {_text(handle)}"
        )
    if _signature(types.get("_start")) == ([], []):
        return "command", ""
    return None, "it exports neither edge_alloc and edge_handle (bytes) nor _start: () -> () (command)"


def _text(signature: tuple[list[str], list[str]] | None) -> str:
    if signature is None:
        return "missing"  # or no function
    return f"({', '.join(signature[0])}) -> ({', '.join(signature[1])})"


def _export(name: str, kind: Any) -> Export:
    names = ((wasmtime.FuncType, "func"), (wasmtime.MemoryType, "memory"), (wasmtime.TableType, "table"))
    label = next((text for cls, text in names if isinstance(kind, cls)), "global")
    return Export(name, label, _text(_signature(kind)) if label == "func" else "")
