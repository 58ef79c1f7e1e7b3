"""``edgeagent inspect FILE``: what a module is, and whether it is for the CPU or a GPU, offline.

Python source and ONNX graphs have no more to tell than the latter.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from edgeagent.cli.deploy import read_wasm
from edgeagent.cli.output import print_json
from edgeagent.model.errors import BadRequest
from edgeagent.model.function import Accel, Identified, Limits, Manifest, ModuleInfo

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="a .wasm module, .wat text, .py source, or an .onnx graph")
    parser.add_argument(
        "--manifest", type=Path, help="TOML manifest (default: FILE with .toml, if it is there)"
    )


def run(args: argparse.Namespace) -> int:
    from edgeagent.accel.chosen_mode import chosen

    accel, beside = _accel(args)
    if args.file.suffix.lower() in (".py", ".onnx"):
        return _source(args, accel)
    info = _inspect(args.file)
    identified = chosen(accel, info, _sources(accel, beside))
    if args.json:
        print_json(_document(info, identified))
    else:
        _show(args.file, info)
        _show_mode(identified)
    return 0 if info.abi and not info.unknown_imports else 1


def _inspect(path: Path) -> ModuleInfo:
    import tempfile

    from edgeagent.runtime.compiler import inspect_file

    with tempfile.NamedTemporaryFile(suffix=".wasm") as file:
        file.write(read_wasm(path))
        file.flush()
        return inspect_file(Path(file.name))


def _accel(args: argparse.Namespace) -> tuple[Accel, Path]:
    """The manifest's section, where there is a manifest, and the folder that its paths start from."""
    from edgeagent.runtime.manifest import parse_manifest

    path = args.manifest or args.file.with_suffix(".toml")
    if args.manifest is None and not path.exists():
        return Accel(), path.parent
    manifest: Manifest = parse_manifest(_read(path), source=str(path))
    return manifest.accel, path.parent


def _sources(accel: Accel, folder: Path) -> dict[str, Identified]:
    """What the files say that a manifest names. Raises BadRequest, SourceRefused."""
    from edgeagent.accel.identify import identify

    found = {}
    if accel.python:
        found["python"] = identify(
            "python", _read(folder / accel.python), beside=_beside(folder / accel.python)
        )
    if accel.onnx:
        found["onnx"] = identify("onnx", _read(folder / accel.onnx))
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadRequest(f"cannot read {path}: {error.strerror}") from None


def _beside(path: Path) -> Callable[[str], bytes | None]:
    """The other modules of a Python program, in the folder that it lies in."""
    from edgeagent.accel.modes import PYTHON_BYTES_MAX

    def read(name: str) -> bytes | None:
        file = path.parent / name
        try:
            # What is no file, a pipe of that name for one, could keep us waiting.
            if not file.is_file():
                return None
            with file.open("rb") as opened:
                return opened.read(PYTHON_BYTES_MAX + 1)  # one more: it is too large to be taken
        except OSError:
            return None

    return read


def _source(args: argparse.Namespace, accel: Accel) -> int:
    from edgeagent.accel.chosen_mode import pinned
    from edgeagent.accel.identify import identify, kind_of

    data = _read(args.file)
    identified = pinned(accel, identify(kind_of(args.file.name), data, beside=_beside(args.file)))
    if args.json:
        import hashlib

        digest = hashlib.sha256(data).hexdigest()
        print_json({"ok": True, "abi": None, "sha256": digest, "size_bytes": len(data), **_mode(identified)})
    else:
        print(f"{args.file}: {len(data)} bytes")
        _show_mode(identified)
    return 0


def _mode(identified: Identified) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(identified)
    return plain


def _show_mode(identified: Identified) -> None:
    print(f"  mode     {identified.mode} (confidence {identified.confidence:.0%})")
    for one in identified.rationale:
        print(f"           {one.evidence} [{one.where}]")


def _document(info: ModuleInfo, identified: Identified) -> dict[str, Any]:
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
        "wasi_nn": _nn_note(info),
        **_mode(identified),
    }


def _nn_note(info: ModuleInfo) -> str:
    """What becomes of a module's calls of wasi-nn here; empty for one that makes none."""
    from edgeagent.accel.nn_layout import NN_MODULE
    from edgeagent.node.nn_guest import has_runtime

    if not any(one.module == NN_MODULE for one in info.imports):
        return ""
    if has_runtime():
        return "ONNX models run through onnxruntime"
    return "onnxruntime is not installed: load gives unsupported_operation (6); pip install 'edgeagent[nn]'"


def _show(path: Path, info: ModuleInfo) -> None:
    print(f"{path}: {info.size_bytes} bytes, sha256 {info.sha256}")
    print(f"  abi      {info.abi or 'none: ' + info.why_no_abi}")
    top = "no limit of its own" if info.memory_max_bytes is None else f"{info.memory_max_bytes} bytes at most"
    print(f"  memory   {info.memory_min_bytes} bytes at start, {top}")
    print(f"  exports  {', '.join(f'{e.name}{e.type}' for e in info.exports) or 'none'}")
    print(f"  imports  {', '.join(f'{i.module}.{i.name}' for i in info.imports) or 'none'}")
    if note := _nn_note(info):
        print(f"  wasi-nn  {note}")
    for item in info.unknown_imports:
        print(f"  not offered by this node: {item.module}.{item.name}")
