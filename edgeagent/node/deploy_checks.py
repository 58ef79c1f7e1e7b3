"""Whether this node takes a module with this manifest: pure checks with refusals that name both sides."""

from __future__ import annotations

import msgspec

from edgeagent.model.errors import ManifestRefused, UnknownImports, WasmRefused
from edgeagent.model.function import Abi, FunctionSection, Manifest, ModuleInfo
from edgeagent.node.config_schema import LimitsSection

__all__ = ["check_module", "effective_manifest"]

_LIMITS = ("memory_bytes", "output_bytes", "wall_ms", "fuel", "stack_bytes", "concurrency")
_SHOWN_MAX = 20


def effective_manifest(name: str, manifest: Manifest | None, maxima: LimitsSection) -> Manifest:
    """The manifest that will hold: the given one, or defaults cut to what the node allows.

    Raises ManifestRefused when it is of another name or asks for more than the node's ``[limits]``.
    """
    if manifest is None:
        plain = Manifest(function=FunctionSection(name=name))
        cut = {
            limit: most
            for limit in _LIMITS
            if (most := getattr(maxima, f"{limit}_max")) and getattr(plain.limits, limit) > most
        }
        return msgspec.structs.replace(plain, limits=msgspec.structs.replace(plain.limits, **cut))
    if manifest.function.name != name:
        raise ManifestRefused(
            f"the manifest is of {manifest.function.name!r}, but is deployed as {name!r}",
            hint="use one name in both places",
        )
    for limit in _LIMITS:
        wanted, most = getattr(manifest.limits, limit), getattr(maxima, f"{limit}_max")
        # fuel_max = 0 is no bound; any other maximum bounds also the "0" that means unmetered fuel.
        unmetered = limit == "fuel" and most > 0 and wanted == 0
        if (most > 0 or limit != "fuel") and (wanted > most or unmetered):
            raise ManifestRefused(
                f"limits.{limit} = {wanted}{' (unmetered)' if unmetered else ''} is over this node's"
                f" limits.{limit}_max = {most}",
                hint=f"ask for at most {most}, or raise limits.{limit}_max of the node",
            )
    return manifest


def check_module(info: ModuleInfo, manifest: Manifest) -> Abi:
    """The ABI to call the module by; raises WasmRefused or UnknownImports."""
    if info.unknown_imports:
        named = [f"{item.module}.{item.name}" for item in info.unknown_imports]
        shown = ", ".join(named[:_SHOWN_MAX]) + (", ..." if len(named) > _SHOWN_MAX else "")
        raise UnknownImports(
            f"the module imports what this node does not offer: {shown}",
            hint="sdk/README.md lists what guests can import",
            unknown_imports=[{"module": item.module, "name": item.name} for item in info.unknown_imports],
        )
    if info.abi is None:
        raise WasmRefused(
            f"the module fits no ABI: {info.why_no_abi}",
            hint="export edge_alloc and edge_handle (bytes), or _start (command)",
        )
    wanted = manifest.function.abi
    if wanted not in ("auto", info.abi):
        raise WasmRefused(
            f"the manifest says abi = {wanted!r}, the module's exports are of {info.abi!r}",
            hint="leave abi at 'auto', or build the module for the other ABI",
        )
    if info.memory_min_bytes > manifest.limits.memory_bytes:
        raise WasmRefused(
            f"the module starts with {info.memory_min_bytes} bytes of memory, over limits.memory_bytes ="
            f" {manifest.limits.memory_bytes}",
            hint="raise limits.memory_bytes in the manifest",
        )
    return info.abi
