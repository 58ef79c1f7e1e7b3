"""wasi-nn's layout, models that name files, and the process that runs models, from the inside."""

from __future__ import annotations

import struct
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeagent.accel.nn_layout import (
    NnErrno,
    NnRefused,
    NnTensor,
    TensorType,
    bytes_at,
    read_tensor,
    write_u32,
)
from edgeagent.accel.nn_wire import HEAD, NnAnswer, NnAsk, framed
from edgeagent.accel.nn_worker import Models
from edgeagent.accel.onnx_external import check_self_contained
from edgeagent.bench.accel_corpus import _field, onnx_model
from edgeagent.model.errors import SourceRefused
from tests.contract.nn_calls import SQUARES


def _memory(dims: tuple[int, ...], kind: int, data: bytes, /, **words: int) -> memoryview:
    """A tensor at 0, its dimensions at 32, its data at 64."""
    given = {"dims_ptr": 32, "rank": len(dims), "kind": kind, "data_ptr": 64, "size": len(data), **words}
    memory = bytearray(256)
    struct.pack_into("<IIB3xII", memory, 0, *given.values())
    struct.pack_into(f"<{len(dims)}I", memory, 32, *dims)
    memory[64 : 64 + len(data)] = data
    return memoryview(memory)


@pytest.mark.parametrize("kind", list(TensorType))
def test_a_tensor_is_read(kind: TensorType) -> None:
    data = bytes(range(6 * kind.bytes))
    assert read_tensor(_memory((2, 3), kind, data), 0, 100) == NnTensor(kind, (2, 3), data)
    assert read_tensor(_memory((), kind, data[: kind.bytes]), 0, 100).dimensions == ()
    assert read_tensor(_memory((0, 9), kind, b""), 0, 100).data == b""


@pytest.mark.parametrize(
    ("words", "errno"),
    [
        ({"rank": 17}, NnErrno.INVALID_ARGUMENT),
        ({"kind": 6}, NnErrno.INVALID_ARGUMENT),
        ({"size": 23}, NnErrno.INVALID_ARGUMENT),
        ({"size": 101}, NnErrno.TOO_LARGE),
        ({"dims_ptr": 250}, NnErrno.INVALID_ARGUMENT),
        ({"dims_ptr": 0xFFFFFFFF}, NnErrno.INVALID_ARGUMENT),
        ({"data_ptr": 240}, NnErrno.INVALID_ARGUMENT),
    ],
)
def test_a_tensor_that_cannot_be(words: dict[str, int], errno: NnErrno) -> None:
    with pytest.raises(NnRefused) as refused:
        read_tensor(_memory((2, 3), 1, bytes(24), **words), 0, 100)
    assert refused.value.errno is errno


def test_ranges_are_inside_of_the_memory() -> None:
    memory = memoryview(bytearray(8))
    write_u32(memory, 4, 7)
    assert bytes_at(memory, 4, 4) == b"\7\0\0\0"
    assert bytes_at(memory, 8, 0) == b""
    for ptr, count in ((5, 4), (9, 0), (0xFFFFFFFF, 0xFFFFFFFF)):
        with pytest.raises(NnRefused):
            bytes_at(memory, ptr, count)
    with pytest.raises(NnRefused):
        write_u32(memory, 6, 7)


# -- models that name files --------------------------------------------------------------------------------------------

OUTSIDE = _field(8, "w") + _field(14, 1)
NAMES_FILE = _field(8, "w") + _field(13, _field(1, "location") + _field(2, "/etc/passwd"))


@pytest.mark.parametrize("tensor", [OUTSIDE, NAMES_FILE])
@pytest.mark.parametrize(
    "place",
    [
        lambda tensor: _field(7, _field(5, tensor)),
        lambda tensor: _field(7, _field(15, _field(1, tensor))),
        lambda tensor: _field(7, _field(15, _field(2, tensor))),
        lambda tensor: _field(7, _field(1, _field(5, _field(5, tensor)))),
        lambda tensor: _field(7, _field(1, _field(5, _field(10, tensor)))),
        lambda tensor: _field(7, _field(1, _field(5, _field(22, _field(1, tensor))))),
        lambda tensor: _field(7, _field(1, _field(5, _field(6, _field(5, tensor))))),
        lambda tensor: _field(7, _field(1, _field(5, _field(11, _field(5, tensor))))),
        lambda tensor: _field(25, _field(7, _field(5, _field(5, tensor)))),
    ],
)
def test_a_model_that_names_files_is_refused(tensor: bytes, place: Any) -> None:
    with pytest.raises(SourceRefused, match="another file"):
        check_self_contained(place(tensor))
    check_self_contained(place(_field(8, "w") + _field(9, b"1234")))


def test_models_that_are_none() -> None:
    check_self_contained(SQUARES)
    with pytest.raises(SourceRefused, match="another file"):
        check_self_contained(onnx_model("init w 3x4\nnode Mul w w -> y\noutput y"))
    with pytest.raises(SourceRefused, match="training"):
        check_self_contained(_field(20, b""))
    with pytest.raises(SourceRefused):
        check_self_contained(b"hello")
    deep = b""
    for _ in range(40):
        deep = _field(1, _field(5, _field(6, deep)))
    with pytest.raises(SourceRefused, match="deep"):
        check_self_contained(_field(7, deep))


# -- the process's inside, with a runtime of the test's ----------------------------------------------------------------


class _Session:
    answer: Any = ()

    def __init__(self, model: bytes, **_: Any) -> None:
        if model == b"bad":
            raise RuntimeError("no model")

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="x")]

    def run(self, _: None, given: dict[str, Any]) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer or [given["x"]]


RUNTIME = SimpleNamespace(SessionOptions=SimpleNamespace, InferenceSession=_Session)
ONE = (1, (2,), np.array([1, 2], "<f4").tobytes())


def test_models_are_loaded_run_and_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    models = Models(RUNTIME, output_bytes_max=100)
    assert models.answer(NnAsk("k", b"bad")) == NnAnswer(NnErrno.INVALID_ENCODING, "no model")
    assert models.answer(NnAsk("k", b"good")) == NnAnswer()
    assert models.answer(NnAsk("k", inputs={0: ONE})) == NnAnswer(outputs=[ONE])
    for answer, errno in (
        ([np.zeros(26, "<f4")], NnErrno.TOO_LARGE),
        ([np.array(["a"])], NnErrno.UNSUPPORTED_OPERATION),
        ([["a", "b"]], NnErrno.UNSUPPORTED_OPERATION),
        (RuntimeError("it broke"), NnErrno.RUNTIME_ERROR),
        (ValueError("inputs"), NnErrno.INVALID_ARGUMENT),
    ):
        monkeypatch.setattr(_Session, "answer", answer)
        assert models.answer(NnAsk("k", inputs={0: ONE})).errno == errno
    monkeypatch.setattr(_Session, "answer", MemoryError())
    with pytest.raises(MemoryError):
        models.answer(NnAsk("k", inputs={0: ONE}))
    monkeypatch.setattr(_Session, "answer", [np.array([True, False])])
    assert models.answer(NnAsk("k", inputs={0: ONE})).outputs == [(3, (2,), b"\1\0")]
    assert models.answer(NnAsk("k", inputs={1: ONE})).errno == NnErrno.INVALID_ARGUMENT
    assert models.answer(NnAsk("k", drop=True)) == NnAnswer()
    assert models.answer(NnAsk("k", inputs={0: ONE})).errno == NnErrno.RUNTIME_ERROR


def _worker(source: bytes, *, program: str = "") -> subprocess.CompletedProcess[bytes]:
    """The process, after ``program`` has put what it wants in the place of modules."""
    code = f"import sys, types\n{program}\nfrom edgeagent.accel.nn_worker import main\nsys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, str(4 << 30), "1000"],
        input=source,
        capture_output=True,
        timeout=60,
        check=False,
    )


FAKE = """
one = types.ModuleType('onnxruntime')
one.__version__ = 'of the test'
one.SessionOptions = types.SimpleNamespace
class Session:
    def __init__(self, model, **more):
        print('noise')
        if model == b'hungry':
            raise MemoryError
        if model == b'open':
            open('/etc/hostname')
one.InferenceSession = Session
sys.modules['onnxruntime'] = one
"""


def test_the_process_greets_answers_and_ends_with_its_input() -> None:
    done = _worker(framed(NnAsk("k", b"fine")) + framed(NnAsk("j", b"open")), program=FAKE)
    assert done.returncode == 0
    answers = []
    rest = done.stdout
    while rest:
        (count,) = HEAD.unpack(rest[:4])
        answers.append(rest[4 : 4 + count])
        rest = rest[4 + count :]
    assert len(answers) == 3
    assert b"onnxruntime of the test" in answers[0]
    assert b"Too many open files" in answers[2]  # a model cannot make it read files
    assert _worker(framed(NnAsk("k", b"fine"))[:-2], program=FAKE).returncode == 0
    assert _worker(framed(NnAsk("k", b"hungry")), program=FAKE).returncode == 3


def test_the_process_ends_when_nobody_listens() -> None:
    code = (
        f"import sys, types\n{FAKE}\nfrom edgeagent.accel.nn_worker import main\nsys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, str(4 << 30), "1000"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        (count,) = HEAD.unpack(process.stdout.read(4))
        process.stdout.read(count)
        process.stdout.close()
        process.stdin.write(framed(NnAsk("k", b"fine")))
        process.stdin.flush()
        assert process.wait(60) == 0


def test_the_process_without_onnxruntime_says_so() -> None:
    done = _worker(b"", program="sys.modules['onnxruntime'] = None")
    assert done.returncode == 0
    assert b"no onnxruntime" in done.stdout
