"""Reading function manifests (TOML): unknown keys are refused with the nearest valid name, values against ranges."""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from typing import Any

import msgspec

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import ManifestRefused
from edgeagent.model.function import FunctionSection, Manifest, State, check_name
from edgeagent.state.errors import BadKey
from edgeagent.state.keys import RUNS, check_prefix

__all__ = ["LIMIT_RANGES", "default_manifest", "parse_manifest", "read_manifest_json"]

# Lowest and highest value of each limit that any node accepts; a node's configuration may be narrower.
LIMIT_RANGES: dict[str, tuple[int, int]] = {
    "memory_bytes": (64 << 10, 4 << 30),
    "output_bytes": (0, 4 << 30),
    "wall_ms": (1, 24 * 3600 * 1000),
    "fuel": (0, (1 << 63) - 1),
    "stack_bytes": (64 << 10, 8 << 20),
    "concurrency": (0, 10_000),
}
_TEXT_BYTES_MAX = 256 << 10
_ITEMS_MAX = 1024
_PREFIXES_MAX = 64
_HOSE = re.compile(r"[a-z0-9._-]{1,63}")


def default_manifest(name: str) -> Manifest:
    return Manifest(function=FunctionSection(name=check_name(name)))


def parse_manifest(text: str | bytes, *, source: str = "manifest") -> Manifest:
    """Read a manifest; raises ManifestRefused naming the key, the value and what would be right."""
    if len(text) > _TEXT_BYTES_MAX:
        raise ManifestRefused(f"{source} is larger than {_TEXT_BYTES_MAX} bytes")
    try:
        raw = tomllib.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # a number of 5000 digits is a plain ValueError
        raise ManifestRefused(f"{source} is not TOML: {error}") from None
    _refuse_unknown(raw, source)
    try:
        manifest = msgspec.convert(raw, Manifest)
    except msgspec.ValidationError as error:
        raise ManifestRefused(f"{source}: {error}", hint=_accepted(str(error))) from None
    _check(manifest, source)
    return manifest


def _accepted(message: str) -> str:
    """The words that a key takes, where it takes only some and was given another."""
    place = re.search(r"enum value .*\$\.(\w+)\.(\w+)", message)
    for section in msgspec.inspect.type_info(Manifest).fields if place else ():  # type: ignore[attr-defined]
        if place and section.encode_name == place[1]:
            for key in section.type.fields:
                if key.encode_name == place[2] and isinstance(key.type, msgspec.inspect.LiteralType):
                    return f"one of {', '.join(map(str, key.type.values))}"
    return ""


def read_manifest_json(data: bytes, *, source: str = "manifest") -> Manifest:
    """A manifest as another node sends it: JSON with the same rules. Raises ManifestRefused."""
    if len(data) > _TEXT_BYTES_MAX:
        raise ManifestRefused(f"{source} is larger than {_TEXT_BYTES_MAX} bytes")
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except UNDECODABLE as error:
        raise ManifestRefused(f"{source}: {error}"[:300]) from None
    _check(manifest, source)
    return manifest


def _refuse_unknown(raw: dict[str, Any], source: str) -> None:
    sections = {field.encode_name: field.type for field in msgspec.structs.fields(Manifest)}
    for section, value in raw.items():
        if section not in sections:
            raise _unknown(f"[{section}]", section, list(sections), source)
        keys = [field.encode_name for field in msgspec.structs.fields(sections[section])]
        for key in value if isinstance(value, dict) else ():
            if key not in keys:
                raise _unknown(f"{section}.{key}", key, keys, source)


def _unknown(what: str, key: str, valid: list[str], source: str) -> ManifestRefused:
    near = difflib.get_close_matches(key, valid, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"valid names: {', '.join(valid)}"
    return ManifestRefused(f"{source}: unknown key {what}", hint=hint)


def _check(manifest: Manifest, source: str) -> None:
    check_name(manifest.function.name)
    for key in ("input", "output"):
        name = getattr(manifest.hose, key)
        if name and not _HOSE.fullmatch(name):
            raise ManifestRefused(f"{source}: hose.{key} must be 1 to 63 of a-z, 0-9, '.', '_' and '-'")
    if manifest.hose.input and manifest.hose.input == manifest.hose.output:
        raise ManifestRefused(f"{source}: hose.input and hose.output are the same: it would feed itself")
    _check_state(manifest.state, source)
    for key in ("python", "onnx"):
        path = getattr(manifest.accel, key)
        # Whoever deploys sends that file, so that a manifest must not name what is not beside it.
        if path and (len(path) > 255 or not path.isprintable() or path[0] == "/" or ".." in path.split("/")):
            raise ManifestRefused(f"{source}: accel.{key} must be a file in the manifest's own directory")
    for key, (low, high) in LIMIT_RANGES.items():
        value = getattr(manifest.limits, key)
        if not low <= value <= high:
            raise ManifestRefused(f"{source}: limits.{key} = {value} is outside {low}..{high}")
    function = manifest.function
    texts = [*function.args, *function.env, *function.env.values()]
    if len(texts) > _ITEMS_MAX:
        raise ManifestRefused(f"{source}: more than {_ITEMS_MAX} args and env values")
    if any("\0" in text for text in texts) or any("=" in key or not key for key in function.env):
        raise ManifestRefused(f"{source}: args and env must not hold NUL, names neither '=' nor nothing")
    for key in ("latency_ms_p95", "cost_usd_per_million"):
        number = getattr(manifest.slo, key)
        if not 0 <= number < math.inf:  # "nan" is TOML too
            raise ManifestRefused(f"{source}: slo.{key} = {number:g} must be finite and must not be negative")


def _check_state(state: State, source: str) -> None:
    if len(state.prefixes) > _PREFIXES_MAX:
        raise ManifestRefused(f"{source}: more than {_PREFIXES_MAX} state.prefixes")
    for prefix in state.prefixes:
        try:
            check_prefix(prefix)
        except BadKey as error:
            raise ManifestRefused(f"{source}: state.prefixes: {error.message}") from None
        if prefix.startswith(RUNS):
            raise ManifestRefused(
                f"{source}: state.prefixes: {prefix[:80]!r} is state of runs",
                hint="a step may touch its own run's anyhow, as run/NAME, and no other's",
            )
