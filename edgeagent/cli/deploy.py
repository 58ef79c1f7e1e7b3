"""``edgeagent deploy FILE``: send a module, with a manifest where there is one."""

from __future__ import annotations

import argparse
import re
import uuid
from pathlib import Path

from edgeagent.cli.client import call, expect
from edgeagent.cli.main import add_node_argument
from edgeagent.cli.output import print_json
from edgeagent.model.errors import BadRequest
from edgeagent.model.function import Manifest, check_name

__all__ = ["add_arguments", "add_module_arguments", "module_of", "read_signature_file", "read_wasm", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_module_arguments(parser)
    parser.add_argument(
        "--signature", type=Path, help="what edgeagent sign made for this module and manifest"
    )
    add_node_argument(parser)


def add_module_arguments(parser: argparse.ArgumentParser) -> None:
    """What :func:`module_of` reads."""
    parser.add_argument("file", type=Path, help="a .wasm module, or .wat text")
    parser.add_argument("--name", help="function name (default: the manifest's, else from the file name)")
    parser.add_argument(
        "--manifest", type=Path, help="TOML manifest (default: FILE with .toml, if it is there)"
    )


def module_of(args: argparse.Namespace) -> tuple[bytes, Manifest, str | None]:
    """The module, its manifest as a node will read it, and that as text where there is one.

    Raises BadRequest, ManifestRefused.
    """
    from edgeagent.runtime.manifest import default_manifest, parse_manifest

    wasm = read_wasm(args.file)
    text = _manifest(args)
    manifest = None if text is None else parse_manifest(text)
    named = "" if manifest is None else manifest.function.name
    name = check_name(args.name or named or re.sub(r"[^a-z0-9-]+", "-", args.file.stem.lower()).strip("-"))
    if text is None:
        return wasm, default_manifest(name), None
    text = _with_name(text, name)
    manifest = parse_manifest(text)
    if manifest.function.name != name:
        raise BadRequest(
            f"the manifest is of {manifest.function.name!r}, not of {name!r}",
            hint="use one name in both places",
        )
    return wasm, manifest, text


def read_signature_file(path: Path) -> bytes:
    """Raises BadRequest."""
    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise BadRequest(f"cannot read {path}: {error.strerror}") from None


def read_wasm(path: Path) -> bytes:
    """The bytes of a module; text format is translated on the way."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadRequest(f"cannot read {path}: {error.strerror}") from None
    if path.suffix != ".wat":
        return data
    import wasmtime

    try:
        return bytes(wasmtime.wat2wasm(data.decode("utf-8")))
    except (wasmtime.WasmtimeError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} is not WebAssembly text: {error}") from None


def run(args: argparse.Namespace) -> int:
    wasm, manifest, text = module_of(args)
    name = manifest.function.name
    parts = {"wasm": wasm}
    if text is not None:
        parts["manifest"] = text.encode()
    parts |= _sources(args, manifest)
    if args.signature is not None:
        parts["signature"] = read_signature_file(args.signature)
    body, kind = (wasm, "application/wasm") if len(parts) == 1 else _multipart(parts)
    reply = expect(call(args.node, "PUT", f"/v1/functions/{name}", body, {"Content-Type": kind}))
    deployed = reply.json()
    if args.json:
        print_json({"ok": True, "new": reply.status == 201, "function": deployed})
    else:
        word = "deployed" if reply.status == 201 else "already deployed"
        print(f"{word}: {name} ({deployed['abi']}, {deployed['sha256'][:12]}, {len(wasm)} bytes)")
        if mode := deployed.get("execution"):  # a node of an older version does not say
            why = mode["rationale"][0]
            print(f"  mode {mode['mode']}: {why['evidence']} [{why['where']}]")
        if note := deployed.get("note"):
            print(note)
    return 0


def _sources(args: argparse.Namespace, manifest: Manifest) -> dict[str, bytes]:
    """The files that the manifest names under ``[accel]``, beside it. Raises BadRequest."""
    folder = (args.manifest or args.file).parent
    found = {}
    for kind, named in (("python", manifest.accel.python), ("onnx", manifest.accel.onnx)):
        if named:
            path = folder / str(named)
            try:
                found[kind] = path.read_bytes()
            except OSError as error:
                raise BadRequest(f"cannot read {path}: {error.strerror}") from None
    return found


def _manifest(args: argparse.Namespace) -> str | None:
    path = args.manifest or args.file.with_suffix(".toml")
    if args.manifest is None and not path.exists():
        return None
    try:
        return str(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"cannot read {path}: {error}") from None


def _with_name(manifest: str, name: str) -> str:
    # --name wins over the file: the node wants both to agree.
    return re.sub(r'(?m)^(\s*name\s*=\s*)"[^"]*"', rf'\g<1>"{name}"', manifest, count=1)


def _multipart(parts: dict[str, bytes]) -> tuple[bytes, str]:
    boundary = uuid.uuid4().hex
    pieces = []
    for name, data in parts.items():
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n\r\n'
        pieces += [head.encode(), data, b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    return b"".join(pieces), f"multipart/form-data; boundary={boundary}"
