"""Corners of the three scanners: what is dead, what is conditional, which sizes are seen, and what cannot be read."""

from __future__ import annotations

import asyncio
import struct

import pytest
import wasmtime

from edgeagent.accel.modes import CROSSOVER_FLOPS, Findings
from edgeagent.accel.onnx_scan import scan_onnx
from edgeagent.accel.python_scan import scan_python
from edgeagent.accel.wasm_scan import scan_wasm
from edgeagent.bench.accel_corpus import LabelledCase, case_bytes, onnx_model
from edgeagent.model.errors import SourceRefused, WasmRefused
from edgeagent.runtime.compiler import Compiler

LOAD = '(import "wasi_ephemeral_nn" "load" (func $load (param i32 i32 i32 i32 i32) (result i32)))'
OPEN = "(drop (call $load (i32.const 0) (i32.const 1) (i32.const 1) (i32.const 1) (i32.const 64)))"


def _wat(body: str, more: str = "") -> Findings:
    text = f'(module {LOAD} (memory (export "memory") 64) {more} (func (export "_start") (local i32) {body}))'
    return scan_wasm(bytes(wasmtime.wat2wasm(text)))


def _python(text: str) -> Findings:
    return scan_python(text.encode())


@pytest.mark.parametrize(
    "body",
    [
        OPEN,
        f"(block {OPEN})",
        f"(loop $l {OPEN} (br_if $l (local.get 0)))",
        f"(if (i32.const 1) (then {OPEN}))",
        f"(if (local.get 0) (then unreachable)) {OPEN}",
        f"(block (br_if 0 (local.get 0)) nop) {OPEN}",
        f"(block (block (br_table 0 1 (local.get 0)))) {OPEN}",
        f"(loop $l (br_if $l (i32.const 0))) {OPEN}",
    ],
)
def test_wasm_that_always_comes_there(body: str) -> None:
    assert _wat(body).device


@pytest.mark.parametrize(
    "body",
    [
        f"(if (local.get 0) (then {OPEN}))",
        f"(block (br_if 0 (local.get 0)) {OPEN})",
        f"(if (local.get 0) (then return)) {OPEN}",
        f"(block (block (br_table 0 1 (local.get 0))) {OPEN})",
        f"(if (local.get 0) (then nop) (else {OPEN}))",
    ],
)
def test_wasm_that_sometimes_comes_there(body: str) -> None:
    found = _wat(body)
    assert found.capable
    assert not found.device


@pytest.mark.parametrize(
    "body",
    [
        f"return {OPEN}",
        f"(block (br 0) {OPEN})",
        f"(if (i32.const 0) (then {OPEN}))",
        f"(if (i32.const 7) (then nop) (else {OPEN}))",
        f"unreachable {OPEN}",
        f"(block (br_if 1 (i32.const 1)) {OPEN})",
        f"(loop $l (br $l)) {OPEN}",
    ],
)
def test_wasm_that_never_comes_there(body: str) -> None:
    assert not _wat(body).capable


def test_a_model_inside_a_module() -> None:
    def held(model: bytes) -> Findings:
        text = "".join(f"\\{byte:02x}" for byte in model)
        size = "".join(f"\\{byte:02x}" for byte in len(model).to_bytes(4, "little"))
        return _wat(
            OPEN.replace("(i32.const 1) (i32.const 64)", "(i32.const 0) (i32.const 64)"),
            f'(data (i32.const 0) "\\00\\10\\00\\00{size}") (data (i32.const 4096) "{text}")',
        )

    big = held(onnx_model("input a 4096x4096\ninit b 4096x4096\nnode MatMul a b -> y\noutput y\n"))
    assert big.work_flops is not None
    assert big.work_flops > CROSSOVER_FLOPS
    assert "model at offset" in big.work[0].where
    broken = held(b"\x08\x09\x3a\x7f")
    assert broken.work_flops is None
    assert any("cannot be read" in one.evidence for one in broken.advice)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x01\x01\x05", "truncated"),
        (b"\x0a\x03\x01\x7f\0", "truncated"),
        (b"\x02\x06\x01\x01a\x01b\x09", "unknown kind of import"),
        (b"\x09\x02\x01\x09", "unknown element segment"),
        (b"\x0b\x05\x01\0\x41\0\x0b", "truncated"),
        (b"\x06\x01", "truncated"),
    ],
)
def test_modules_that_end_too_early(data: bytes, text: str) -> None:
    with pytest.raises(WasmRefused, match=text):
        scan_wasm(b"\0asm\x01\0\0\0" + data)


def test_a_function_that_ends_inside_an_instruction() -> None:
    head = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\0"
    for body in (b"\0\x41", b"\0\x44\0", b"\0\x0c\x05\x0b", b"\0\x02\x40"):
        code = bytes([1, len(body)]) + body
        with pytest.raises(WasmRefused):
            scan_wasm(head + bytes([10, len(code)]) + code)


def test_density_is_weighed_by_loops() -> None:
    once = _wat("(drop (f32.add (f32.const 1) (f32.const 2))) " + "nop " * 50)
    often = _wat(
        "(loop $l (drop (f32.add (f32.const 1) (f32.const 2))) (br_if $l (local.get 0))) " + "nop " * 50
    )
    shares = [
        next(
            int(one.evidence.split("loops, ")[1].split("%")[0])
            for one in found.advice
            if "weighed" in one.evidence
        )
        for found in (once, often)
    ]
    assert shares[1] >= 4 * shares[0]


@pytest.mark.parametrize(
    "text",
    [
        "x = 'a' < 1",
        "x = int('no')",
        "for i in range(0, 9, 0):\n    pass",
        "x = 1 / 0",
        "exec('(')",
        "x = 'abc' % ()",
        "def f():\n    return f()\nf()",
        "x = [*range(3)]; a, *b = x; c = b[7]",
        "class A(B): pass\nA().go()",
        "import numpy as np\nx = np.zeros((2, 3)).transpose(5, 6)\ny = np.einsum('ij,jk', x)\nz = np.arange(0, 5, 0)",
        "match x:\n    case {'a': [1, *rest]}: pass\n    case _: pass",
        "async def handle(b):\n    async with b as c:\n        async for d in c:\n            await d\n",
        "try:\n    pass\nexcept* ValueError:\n    pass",
    ],
)
def test_odd_programs_are_read(text: str) -> None:
    _python(text)


def test_executed_text_is_read_too() -> None:
    assert _python("exec('import torch\\ntorch.zeros(2).cuda()')").device


def test_names_made_at_run_time_leave_doubt() -> None:
    found = _python("import importlib\nm = importlib.import_module(input())")
    assert found.doubtful
    assert not found.capable


def test_each_branch_counts_and_the_dearer_one_is_told() -> None:
    def work(body: str) -> float:
        return _python(f"import numpy as np\nn = np\ndef handle(b):\n{body}").work_flops or 0.0

    one = work("    np.ones((3000, 3000)) @ np.ones((3000, 3000))\n")
    both = work(
        "    if b:\n        np.ones((3000, 3000)) @ np.ones((3000, 3000))\n"
        "    else:\n        np.ones((3000, 3000)) @ np.ones((3000, 3000))\n"
    )
    assert one == pytest.approx(both)
    assert one > CROSSOVER_FLOPS


def test_onnx_sizes() -> None:
    flops = scan_onnx(
        onnx_model("input x 1x3x8x8\ninit w 4x3x3x3\nnode Conv x w -> y strides=2,2 pads=1,1,1,1\noutput y\n")
    ).work_flops
    assert flops == pytest.approx(2 * 4 * 4 * 4 * 27 + 4 * 32 * 64)
    open_size = scan_onnx(onnx_model("input x ?x8\ninit w 8x8\nnode MatMul x w -> y\noutput y\n"))
    assert open_size.work_flops is None


def test_a_worker_that_ends_without_an_answer() -> None:
    async def ask(compiler: Compiler, data: bytes) -> None:
        with pytest.raises(SourceRefused, match="the python source"):
            await compiler.identify("python", data)

    asyncio.run(ask(Compiler(wall_s=0.0), b"import numpy"))
    asyncio.run(ask(Compiler(), b"import ("))
    assert asyncio.run(Compiler().identify("python", b"import numpy")).mode == "cpu_preferred"


def test_constants_are_followed_as_far_as_a_bound_and_the_rest_is_unknown() -> None:
    """What was known before the bound still counts."""
    fill = "(memory.fill (i32.const 0) (i32.const 1) (i32.const 65536))" * 100
    call = "(drop (call $call (i32.const 0) (i32.const 6) (i32.const 70000) (i32.const 448)))"
    text = """(module (import "edge_accel" "call" (func $call (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 4) (data (i32.const 0) "matmul")
      (data (i32.const 70000) "{{call 2 1 f32:4000x4000 f32:4000x4000 f32:4000x4000}}")
      (func (export "_start") {}))"""

    def scan(body: str) -> Findings:
        return scan_wasm(case_bytes(LabelledCase("case", "wasm", "cpu", text.format(body))))

    assert (scan(call + fill).work_flops or 0) > 2 * 4000**3
    found = scan(fill + call)
    assert found.work_flops is None
    assert "more constants than are followed; the rest is unknown" in [one.evidence for one in found.advice]


def test_a_model_in_a_segment_is_read_once() -> None:
    """However often it is loaded; and of many models only a few are read."""
    model = onnx_model("input x 64x64\ninit w 64x64\nnode MatMul x w -> y\noutput y")
    escaped = "".join(f"\\{byte:02x}" for byte in model)
    builder = struct.pack("<II", 256, len(model))
    words = "".join(f"\\{byte:02x}" for byte in builder)
    load = "(drop (call $load (i32.const 8) (i32.const 1) (i32.const 1) (i32.const 0) (i32.const 64)))"
    data = f'(data (i32.const 8) "{words}") (data (i32.const 256) "{escaped}")'
    once, thrice = _wat(load, data), _wat(load * 3, data)
    assert once.work_flops is not None
    assert thrice.work_flops == 3 * once.work_flops
    assert len(thrice.work) == len(once.work)
    other = struct.pack("<6I", *(number for size in range(1, 4) for number in (256, len(model) - size)))
    lists = "".join(f"\\{byte:02x}" for byte in other + struct.pack("<4I", 256, 5, 256, 6))
    several = "".join(load.replace("i32.const 8", f"i32.const {8 * place}", 1) for place in range(1, 7))
    found = _wat(several, data + f'(data (i32.const 16) "{lists}")')
    assert found.work_flops is None
    assert sum("a model that cannot be read" in one.evidence for one in found.advice) == 3


def test_instructions_on_objects_are_passed_over_and_their_branches_count() -> None:
    text = f"""(module {LOAD} (memory (export "memory") 1) (type $s (struct (field i32)))
      (func (export "_start") (local (ref null any))
        (block (result (ref null any)) (br_on_cast 0 (ref null any) (ref $s) (local.get 0)) (drop) {OPEN}
          (ref.null any)) (drop)))"""
    found = scan_wasm(bytes(wasmtime.wat2wasm(text)))
    assert found.capable
    assert not found.device
    with pytest.raises(WasmRefused, match="unknown opcode 0xfb 99"):
        scan_wasm(b"\0asm\1\0\0\0\1\4\1\x60\0\0\3\2\1\0\7\x0a\1\6_start\0\0\x0a\x06\1\4\0\xfb\x63\x0b")


def test_a_function_of_more_values_than_an_engine_takes() -> None:
    some = b"\x60\xe9\7" + b"\x7f" * 1001 + b"\0"
    with pytest.raises(WasmRefused, match="a function of 1001 values"):
        scan_wasm(b"\0asm\1\0\0\0" + b"\1\xee\7\1" + some)


def test_a_constant_that_adds_what_is_not_there() -> None:
    module = b"\0asm\1\0\0\0" + b"\6\6\1\x7f\0\x41\0\x6a" + b"\x0b"
    with pytest.raises(WasmRefused):
        scan_wasm(module)


def test_text_that_is_formatted() -> None:
    """Fields by place and by name; what is not known is no name of a device."""
    shown = "import torch\nx = torch.ones(2).to({!r}.format({}))"
    for text, values in (("{}:{}", "'cuda', 0"), ("{1}:{0:d}", "0, 'cuda'"), ("{d}{n}", "d='cu', n='da'")):
        assert _python(shown.format(text, values)).device
    for text, values in (("{}", "x"), ("{9}", "'cuda'"), ("{d}", "n='cuda'"), ("{0.a}", "'cuda'")):
        assert not _python(shown.format(text, values)).device


def test_what_a_class_takes_from_its_base() -> None:
    base = "import torch\nclass A:\n def go(self, x):\n  return x.cuda()\n"
    child = "class B(A):\n def go(self, x):\n  return super().go(x)\n"
    assert _python(f"{base}{child}B().go(torch.ones(2))").device
    far = "".join(f"class A{n}({f'A{n - 1}' if n else 'A'}): pass\n" for n in range(20))
    assert _python(f"{base}{far}A19().go(torch.ones(2))").device
    made = "class B(A):\n def __init__(self):\n  super().go(torch.ones(2))\nB()"
    assert _python(base + made).device
    assert not _python(f"{base}class B(A):\n def go(self, x):\n  return x\nB().go(torch.ones(2))").device
    assert not _python(
        "import torch\nclass B(torch.nn.Module):\n def __init__(self):\n  super().__init__()\nB()"
    ).device
    assert not _python("import torch\nx = super()").device
