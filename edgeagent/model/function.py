"""What a function is: its manifest (CONTRACTS: function manifest), its limits, and what its module contains."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from edgeagent.model.errors import ManifestRefused

__all__ = [
    "Abi",
    "Accel",
    "Deployed",
    "Evidence",
    "ExecutionMode",
    "Export",
    "FunctionSection",
    "Hose",
    "Identified",
    "Import",
    "Limits",
    "Manifest",
    "ModuleInfo",
    "Place",
    "Slo",
    "State",
    "check_name",
    "is_name",
]

Abi = Literal["bytes", "command"]
ExecutionMode = Literal["cpu", "cpu_preferred", "gpu_preferred", "gpu"]

_NAME = re.compile(r"[a-z0-9-]{1,63}")


def is_name(name: str) -> bool:
    """Whether a function may be called so."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """Return ``name`` if it is a function name (``[a-z0-9-]{1,63}``); raise ManifestRefused if not."""
    if not is_name(name):
        raise ManifestRefused(
            f"function name {name[:80]!r} is not allowed", hint="use 1 to 63 of a-z, 0-9 and -"
        )
    return name


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class FunctionSection(_Strict, frozen=True):
    """``[function]``: identity and, for ``command``, its arguments and environment."""

    name: str
    abi: Literal["auto", "bytes", "command"] = "auto"
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    scratch: bool = False


class Limits(_Strict, frozen=True):
    """``[limits]``: hard bounds of one invocation; fuel = 0 is unmetered.

    concurrency = 0: as many calls as there are worker threads run, and as many again stand ready behind them.
    """

    memory_bytes: int = 268_435_456
    output_bytes: int = 67_108_864
    wall_ms: int = 10_000
    fuel: int = 0
    stack_bytes: int = 1_048_576
    concurrency: int = 0


class Slo(_Strict, frozen=True):
    # Named by CONTRACTS; ``class`` is a Python keyword.
    class_: str = msgspec.field(name="class", default="default")
    latency_ms_p95: float = 0
    cost_usd_per_million: float = 0


class Place(_Strict, frozen=True):
    needs: tuple[str, ...] = ()
    near: str = ""
    data_source: str = ""


class Accel(_Strict, frozen=True):
    """``[accel]``: the execution mode; ``auto`` leaves it to what is read from the code.

    ``python`` and ``onnx`` name files beside the manifest that say more than the module does: the source that it was
    made of, and the model that it runs.
    """

    mode: Literal["auto", "cpu", "cpu_preferred", "gpu_preferred", "gpu"] = "auto"
    # Left out of the canonical form where they are not given, so that older signatures still hold.
    python: str | msgspec.UnsetType = msgspec.UNSET
    onnx: str | msgspec.UnsetType = msgspec.UNSET


class Hose(_Strict, frozen=True):
    """``[hose]``: the function runs for every frame of the hose ``input``; what it returns goes to the hose ``output``.

    Names are 1 to 63 of ``a-z 0-9 . _ -``; "" means none.
    """

    input: str = ""
    output: str = ""


class State(_Strict, frozen=True):
    """``[state]``: what keys of state it may touch begin with; a step of a run may touch ``run/`` besides."""

    prefixes: tuple[str, ...] = ("tasks/",)


class Manifest(_Strict, frozen=True):
    """A whole manifest; every section but ``function.name`` has defaults."""

    function: FunctionSection
    limits: Limits = Limits()
    slo: Slo = Slo()
    place: Place = Place()
    accel: Accel = Accel()
    hose: Hose = Hose()
    state: State = State()


class Evidence(msgspec.Struct, frozen=True):
    """One thing that was seen, in words, and its place: an offset, a line, a node of a graph, or a manifest key."""

    evidence: str
    where: str


class Identified(msgspec.Struct, frozen=True, kw_only=True):
    """What the execution-mode identifier makes of a function's code; ``confidence`` is between 0 and 1.

    ``work_flops``: the predicted work of one call in equivalents of floating point operations, None: unknown.
    """

    mode: ExecutionMode
    confidence: float
    rationale: tuple[Evidence, ...] = ()
    work_flops: float | None = None


class Import(msgspec.Struct, frozen=True):
    module: str
    name: str


class Export(msgspec.Struct, frozen=True):
    name: str
    kind: str  # func, memory, table, global
    type: str  # "(i32, i32) -> (i64)" for functions, "" otherwise


class ModuleInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What introspection found in a core module; ``abi`` is None when the exports fit neither ABI.

    ``identified`` is what its code says of CPU or GPU (None: described by a version that did not look).
    ``memory_min_bytes`` is the initial size of the exported memory, ``has_start`` tells whether instantiation
    itself runs guest code, ``data_end_bytes`` where the last data segment ends (None: not known).
    """

    sha256: str
    size_bytes: int
    abi: Abi | None
    imports: tuple[Import, ...] = ()
    exports: tuple[Export, ...] = ()
    unknown_imports: tuple[Import, ...] = ()
    memory_min_bytes: int = 0
    memory_max_bytes: int | None = None
    has_start: bool = False
    data_end_bytes: int | None = None
    why_no_abi: str = ""
    identified: Identified | None = None

    def imports_function(self, module: str, name: str) -> bool:
        return Import(module, name) in self.imports

    def exports_function(self, name: str) -> bool:
        return any(item.name == name and item.kind == "func" for item in self.exports)


class Deployed(msgspec.Struct, frozen=True, kw_only=True):
    """A deployed function as the registry stores it; ``deployed_at`` is UTC, ISO 8601.

    ``sources`` is what the files say that the manifest names under ``[accel]``, where they came with the module.
    ``signature`` is the document of model.signature, empty: none; ``origin`` the node that it came from, empty: a user
    deployed it here.
    """

    name: str
    sha256: str
    abi: Abi
    manifest: Manifest
    info: ModuleInfo
    deployed_at: str
    signature: bytes = b""
    origin: str = ""
    sources: dict[str, Identified] = {}
