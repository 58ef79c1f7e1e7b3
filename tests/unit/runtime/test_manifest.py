"""Manifests: what is accepted, and that each refusal names the key and what would be right."""

from __future__ import annotations

import pytest

from edgeagent.model.errors import ManifestRefused
from edgeagent.model.signature import canonical_manifest
from edgeagent.runtime.manifest import default_manifest, parse_manifest

FULL = """
[function]
name = "detect"
abi = "command"
args = ["-v"]
env = { MODE = "fast" }
scratch = true
[limits]
memory_bytes = 1048576
wall_ms = 5
[slo]
class = "urgent"
[place]
needs = ["gpu"]
[accel]
mode = "cpu_preferred"
[state]
prefixes = ["tasks/", "maps/"]
"""


def test_a_full_manifest() -> None:
    manifest = parse_manifest(FULL)
    assert manifest.function.args == ("-v",)
    assert manifest.function.env == {"MODE": "fast"}
    assert manifest.limits.memory_bytes == 1 << 20
    assert manifest.limits.output_bytes == 67_108_864, "what is not said has its default"
    assert manifest.slo.class_ == "urgent"
    assert parse_manifest(FULL.encode()) == manifest


def test_the_name_alone_is_enough() -> None:
    assert parse_manifest('[function]\nname = "x"') == default_manifest("x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[function]", "name"),
        ("[function\n", "TOML"),
        (b"\xff\xfe", "TOML"),
        ('[function]\nname = "../x"', "not allowed"),
        ('[function]\nname = ""', "not allowed"),
        ('[function]\nname = "x"\nnmae = 1', "nmae"),
        ('[functoin]\nname = "x"', "functoin"),
        ('[function]\nname = "x"\nabi = "wasi"', "wasi"),
        ('[function]\nname = "x"\n[limits]\nwall_ms = 0', "wall_ms = 0 is outside"),
        ('[function]\nname = "x"\n[limits]\nstack_bytes = 99999999', "stack_bytes"),
        ('[function]\nname = "x"\n[limits]\nwall_ms = "5s"', "wall_ms"),
        ('[function]\nname = "x"\nenv = { "A=B" = "c" }', "env"),
        ('[function]\nname = "x"\nargs = ["a\\u0000"]', "NUL"),
        ('[function]\nname = "x"\n[slo]\nlatency_ms_p95 = -1', "negative"),
        ('[function]\nname = "x"\n[state]\nprefixes = ["a//b"]', "a//b"),
        ('[function]\nname = "x"\n[state]\nprefixes = ["/"]', "state.prefixes"),
        ('[function]\nname = "x"\n[state]\nprefixes = ["runs/"]', "run/NAME"),
        ('[function]\nname = "x"\n[state]\nprefixes = [' + '"a/",' * 65 + "]", "more than 64"),
        ("x = 1\n" * 100_000, "larger"),
    ],
)
def test_refusals(text: str | bytes, said: str) -> None:
    with pytest.raises(ManifestRefused) as refused:
        parse_manifest(text)
    assert said in refused.value.message + refused.value.hint


def test_the_nearest_name_is_suggested() -> None:
    with pytest.raises(ManifestRefused) as refused:
        parse_manifest('[function]\nname = "x"\n[limits]\nwal_ms = 5')
    assert refused.value.hint == "did you mean 'wall_ms'?"


def test_files_of_accel_are_beside_the_manifest() -> None:
    text = '[function]\nname = "f"\n[accel]\npython = "{}"\n'
    assert parse_manifest(text.format("src/f.py")).accel.python == "src/f.py"
    for path in ("/etc/passwd", "../f.py", "a/../../f.py", "x" * 300, "a\\u0000b"):
        with pytest.raises(ManifestRefused, match=r"accel\.python"):
            parse_manifest(text.format(path))


def test_a_manifest_without_files_of_accel_is_signed_as_before() -> None:
    assert b'"accel":{"mode":"auto"}' in canonical_manifest(default_manifest("f"))


def test_a_refusal_names_the_key_and_what_would_be_right() -> None:
    with pytest.raises(ManifestRefused, match=r"accel\.mode") as refused:
        parse_manifest('[function]\nname = "x"\n[accel]\nmode = "GPU"')
    assert refused.value.hint == "one of auto, cpu, cpu_preferred, gpu, gpu_preferred"
    with pytest.raises(ManifestRefused, match=r"accel\.mode") as refused:
        parse_manifest('[function]\nname = "x"\n[accel]\nmode = 3')
    assert not refused.value.hint
    with pytest.raises(ManifestRefused, match=r"slo\.cost_usd_per_million = nan must be finite"):
        parse_manifest('[function]\nname = "x"\n[slo]\ncost_usd_per_million = nan')
