"""Shared by all tests: hypothesis is deterministic, guests are compiled once a session.

Nothing here makes an engine at import: pytest enables faulthandler when it configures, and wasmtime's signal handlers
must be installed after that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from edgeagent.model.function import ModuleInfo
    from edgeagent.runtime.port import Code, Engine

settings.register_profile(
    "house", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("house")

Compile = Callable[..., "tuple[Code, ModuleInfo]"]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """``compiled(name or wasm bytes, fuel=False, target="native")``: machine code and description of a guest."""
    directory = tmp_path_factory.mktemp("code")
    cache: dict[tuple[str, bool, str], tuple[Code, ModuleInfo]] = {}

    def compile_guest(
        guest: str | bytes, *, fuel: bool = False, target: str = "native"
    ) -> tuple[Code, ModuleInfo]:
        from tests.guests import wasm

        binary = wasm(guest) if isinstance(guest, str) else guest
        key = (hashlib.sha256(binary).hexdigest(), fuel, target)
        if key not in cache:
            cache[key] = _compile(binary, key, directory)
        return cache[key]

    return compile_guest


def _compile(binary: bytes, key: tuple[str, bool, str], directory: Path) -> tuple[Code, ModuleInfo]:
    import wasmtime

    from edgeagent.model.wasm_sections import scan
    from edgeagent.runtime.engine_config import Settings, compile_config
    from edgeagent.runtime.introspect import module_info
    from edgeagent.runtime.port import Code

    digest, fuel, target = key
    settings_ = Settings(fuel=fuel, target=target)  # type: ignore[arg-type]
    module = wasmtime.Module(wasmtime.Engine(compile_config(settings_)), binary)
    code = bytes(module.serialize())
    path = directory / f"{digest}-{fuel}-{target}.cwasm"
    path.write_bytes(code)
    info = module_info(module, sha256=digest, size_bytes=len(binary), sections=scan(binary))
    return Code(path=str(path), sha256=hashlib.sha256(code).hexdigest(), size_bytes=len(code)), info


def engine_names() -> list[str]:
    """The engines that this machine can test."""
    from edgeagent import native

    return ["pure", "native"] if native.accelerated else ["pure"]


@pytest.fixture(scope="module", params=["pure", "native"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine in turn, opened as the daemon opens it."""
    from edgeagent.runtime.open_engine import open_engine

    if request.param not in engine_names():
        pytest.skip("the extension is not built")
    opened = open_engine(request.param, workers=2, small_slots=32, large_slots=4)
    yield opened
    opened.close()
    assert opened.stats().live_instances == 0
