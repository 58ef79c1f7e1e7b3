"""Guests for tests, in WebAssembly text; compiled when a test asks, so that no tool and no binary is needed."""

from __future__ import annotations

import functools
from pathlib import Path

import wasmtime

__all__ = ["names", "wasm"]

_HERE = Path(__file__).parent


def names() -> list[str]:
    return sorted(path.stem for path in _HERE.glob("*.wat"))


@functools.cache
def wasm(name: str) -> bytes:
    """The binary of ``tests/guests/NAME.wat``."""
    return bytes(wasmtime.wat2wasm((_HERE / f"{name}.wat").read_text(encoding="utf-8")))
