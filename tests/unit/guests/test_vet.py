"""vet: the bytes as they came, and the module is what its text says."""

from __future__ import annotations

import wasmtime

from tests.unit.guests.guest import EXAMPLES, Guest

FOLDER = EXAMPLES / "wildfire"


def test_it_passes_on_what_it_gets() -> None:
    vet = Guest((FOLDER / "vet.wasm").read_bytes())
    for data in (b"", b"x", bytes(range(256)) * 9):
        assert vet(data) == data


def test_the_module_is_made_of_the_text() -> None:
    assert (FOLDER / "vet.wasm").read_bytes() == bytes(wasmtime.wat2wasm((FOLDER / "vet.wat").read_text()))
