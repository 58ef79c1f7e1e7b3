"""``edgeagent inspect FILE``: what a module is, offline."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec

from edgeagent.cli.deploy import read_wasm
from edgeagent.cli.output import print_json
from edgeagent.model.function import Limits, ModuleInfo

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="a .wasm module, or .wat text")


def run(args: argparse.Namespace) -> int:
    import tempfile

    from edgeagent.runtime.compiler import inspect_file

    with tempfile.NamedTemporaryFile(suffix=".wasm") as file:
        file.write(read_wasm(args.file))
        file.flush()
        info = inspect_file(Path(file.name))
    if args.json:
        print_json(_document(info))
    else:
        _show(args.file, info)
    return 0 if info.abi and not info.unknown_imports else 1


def _document(info: ModuleInfo) -> dict[str, Any]:
    return {
        "ok": bool(info.abi and not info.unknown_imports),
        "abi": info.abi,
        "why_no_abi": info.why_no_abi,
        "sha256": info.sha256,
        "size_bytes": info.size_bytes,
        "imports": msgspec.to_builtins(info.imports),
        "exports": msgspec.to_builtins(info.exports),
        "unknown_imports": msgspec.to_builtins(info.unknown_imports),
        "limits": msgspec.to_builtins(Limits()),
        "memory_min_bytes": info.memory_min_bytes,
        "memory_max_bytes": info.memory_max_bytes,
        "has_start": info.has_start,
        # The execution mode (CPU or GPU) is not decided by this version.
        "mode": None,
        "confidence": None,
        "rationale": [],
    }


def _show(path: Path, info: ModuleInfo) -> None:
    print(f"{path}: {info.size_bytes} bytes, sha256 {info.sha256}")
    print(f"  abi      {info.abi or 'none: ' + info.why_no_abi}")
    top = "no limit of its own" if info.memory_max_bytes is None else f"{info.memory_max_bytes} bytes at most"
    print(f"  memory   {info.memory_min_bytes} bytes at start, {top}")
    print(f"  exports  {', '.join(f'{e.name}{e.type}' for e in info.exports) or 'none'}")
    print(f"  imports  {', '.join(f'{i.module}.{i.name}' for i in info.imports) or 'none'}")
    for item in info.unknown_imports:
        print(f"  not offered by this node: {item.module}.{item.name}")
