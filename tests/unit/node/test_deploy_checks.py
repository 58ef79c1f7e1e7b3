"""What a node takes: its maxima against a manifest, a manifest against a module."""

from __future__ import annotations

import msgspec
import pytest

from edgeagent.model.errors import ManifestRefused, UnknownImports, WasmRefused
from edgeagent.model.function import Import, Limits, Manifest, ModuleInfo
from edgeagent.node.config_schema import LimitsSection
from edgeagent.node.deploy_checks import check_module, effective_manifest
from tests.unit.node.doubles import info_of, manifest

MAXIMA = LimitsSection()


@pytest.mark.parametrize(
    ("limit", "value", "maximum"),
    [
        ("memory_bytes", 2 << 30, 1 << 30),
        ("output_bytes", 1 << 30, 256 << 20),
        ("wall_ms", 600_001, 600_000),
        ("stack_bytes", (8 << 20) + 1, 8 << 20),
        ("concurrency", 257, 256),
    ],
)
def test_a_limit_over_the_nodes_names_both(limit: str, value: int, maximum: int) -> None:
    with pytest.raises(ManifestRefused) as refused:
        effective_manifest("f", manifest("f", "auto", **{limit: value}), MAXIMA)
    assert f"limits.{limit} = {value}" in refused.value.message
    assert f"limits.{limit}_max = {maximum}" in refused.value.message
    exact = manifest("f", "auto", **{limit: maximum})
    assert effective_manifest("f", exact, MAXIMA) is exact


def test_fuel_can_be_required() -> None:
    metered = msgspec.structs.replace(MAXIMA, fuel_max=1000)
    assert effective_manifest("f", manifest("f", fuel=1000), metered).limits.fuel == 1000
    for fuel in (1001, 0):
        with pytest.raises(ManifestRefused, match="fuel"):
            effective_manifest("f", manifest("f", fuel=fuel), metered)
    assert effective_manifest("f", manifest("f", fuel=1 << 60), MAXIMA).limits.fuel == 1 << 60


def test_defaults_are_cut_to_what_the_node_allows() -> None:
    small = LimitsSection(memory_bytes_max=1 << 20, output_bytes_max=1 << 16, wall_ms_max=100)
    limits = effective_manifest("f", None, small).limits
    assert (limits.memory_bytes, limits.output_bytes, limits.wall_ms) == (1 << 20, 1 << 16, 100)
    assert (limits.stack_bytes, limits.fuel) == (Limits().stack_bytes, 0)
    assert effective_manifest("f", None, MAXIMA).limits == Limits()


def test_a_manifest_of_another_name_is_refused() -> None:
    with pytest.raises(ManifestRefused, match=r"'g'.*'f'"):
        effective_manifest("f", manifest("g"), MAXIMA)


def module(words: bytes) -> ModuleInfo:
    return info_of(words)


def plain(abi: str = "auto") -> Manifest:
    return manifest("f", abi)  # type: ignore[arg-type]


@pytest.mark.parametrize("abi", ["bytes", "command"])
def test_the_abi_is_the_modules(abi: str) -> None:
    assert check_module(module(abi.encode()), plain()) == abi
    assert check_module(module(abi.encode()), plain(abi)) == abi


def test_modules_that_are_refused() -> None:
    with pytest.raises(WasmRefused, match="it exports nothing"):
        check_module(module(b""), plain())
    with pytest.raises(WasmRefused, match=r"'command'.*'bytes'"):
        check_module(module(b"bytes"), plain("command"))
    with pytest.raises(WasmRefused, match=r"limits\.memory_bytes"):
        check_module(module(b"bytes large"), plain())


def test_unknown_imports_are_listed() -> None:
    many = msgspec.structs.replace(
        module(b"bytes"), unknown_imports=tuple(Import("env", f"f{n}") for n in range(30))
    )
    with pytest.raises(UnknownImports) as refused:
        check_module(many, plain())
    assert refused.value.details["unknown_imports"][29] == {"module": "env", "name": "f29"}
    assert "env.f0, " in refused.value.message
    assert refused.value.message.endswith("...")
