"""The process that runs ONNX models: ``python -m edgeagent.accel.nn_worker MEMORY_BYTES OUTPUT_BYTES_MAX``.

Models come from guests, and onnxruntime is a large C++ program that reads them: here it can end, hang or take memory
without harm to the node, which kills it at a call's deadline. Bounded in memory; it writes no files and, once it has
begun, opens none.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import signal
import sys
from pathlib import Path
from typing import IO, Any

import msgspec

from edgeagent.accel.nn_layout import NnErrno, TensorType
from edgeagent.accel.nn_wire import HEAD, NnAnswer, NnAsk, framed

__all__ = ["Models", "main"]

_PR_SET_PDEATHSIG = 1
_THREADS_MAX = 4
_DTYPES = {
    TensorType.F16: "<f2",
    TensorType.F32: "<f4",
    TensorType.F64: "<f8",
    TensorType.U8: "|u1",
    TensorType.I32: "<i4",
    TensorType.I64: "<i8",
}
_TYPES = {dtype: int(kind) for kind, dtype in _DTYPES.items()} | {"|b1": int(TensorType.U8)}


class Models:
    """Loaded models by key. ``runtime`` is the module onnxruntime."""

    def __init__(self, runtime: Any, output_bytes_max: int) -> None:
        self._runtime = runtime
        self._output_bytes_max = output_bytes_max
        self._sessions: dict[str, Any] = {}

    def answer(self, ask: NnAsk) -> NnAnswer:
        """Never raises but MemoryError."""
        try:
            if ask.drop:
                self._sessions.pop(ask.key, None)
                return NnAnswer()
            if ask.model is not None:
                return self._load(ask.key, ask.model)
            return self._run(ask)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever onnxruntime raises is the guest's to hear of
            return NnAnswer(_errno_of(error, loads=ask.model is not None), f"{error}"[:300])

    def _load(self, key: str, model: bytes) -> NnAnswer:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = min(_THREADS_MAX, os.cpu_count() or 1)
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.enable_cpu_mem_arena = False  # else a big run's memory stays for ever
        self._sessions[key] = self._runtime.InferenceSession(
            model, sess_options=options, providers=["CPUExecutionProvider"]
        )
        return NnAnswer()

    def _run(self, ask: NnAsk) -> NnAnswer:
        import numpy as np

        session = self._sessions[ask.key]
        names = [one.name for one in session.get_inputs()]
        if any(index >= len(names) for index in ask.inputs):
            return NnAnswer(NnErrno.INVALID_ARGUMENT, f"the model has {len(names)} inputs")
        given = {
            names[index]: np.frombuffer(data, _DTYPES[TensorType(kind)]).reshape(dimensions)
            for index, (kind, dimensions, data) in ask.inputs.items()
        }
        outputs = []
        left = self._output_bytes_max
        for one in session.run(None, given):
            kind = _TYPES.get(getattr(getattr(one, "dtype", None), "str", ""))
            if kind is None:
                return NnAnswer(NnErrno.UNSUPPORTED_OPERATION, "an output is of a type that wasi-nn has not")
            left -= one.nbytes
            if left < 0:
                return NnAnswer(NnErrno.TOO_LARGE, f"outputs over {self._output_bytes_max} bytes")
            outputs.append((kind, tuple(one.shape), np.ascontiguousarray(one).tobytes()))
        return NnAnswer(outputs=outputs)


def _errno_of(error: Exception, *, loads: bool) -> NnErrno:
    """Onnxruntime's exceptions have the names of its states."""
    if loads:
        return NnErrno.INVALID_ENCODING
    name = type(error).__name__
    return NnErrno.INVALID_ARGUMENT if name in {"InvalidArgument", "ValueError"} else NnErrno.RUNTIME_ERROR


def _bounds(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = max(int(one.name) for one in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _read(source: IO[bytes], count: int) -> bytes | None:
    found = source.read(count)
    return found if len(found) == count else None


def main(arguments: list[str]) -> int:
    """Until standard input ends; 3: no memory is left."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's; the daemon decides when this ends
    memory_bytes, output_bytes_max = (int(word) for word in arguments[:2])
    source, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # what libraries print goes nowhere
    os.dup2(nowhere, 2)
    try:
        import numpy as np

        runtime = importlib.import_module("onnxruntime")
    except Exception as error:  # noqa: BLE001 - a package that breaks at import is as good as none
        answers.write(framed(NnAnswer(NnErrno.UNSUPPORTED_OPERATION, f"no onnxruntime: {error}"[:300])))
        answers.flush()
        return 0
    np.zeros(1).sum()
    _bounds(memory_bytes)
    models = Models(runtime, output_bytes_max)
    answers.write(framed(NnAnswer(why=f"onnxruntime {runtime.__version__}")))
    answers.flush()
    try:
        while (head := _read(source, HEAD.size)) is not None:
            data = _read(source, HEAD.unpack(head)[0])
            if data is None:
                break
            answers.write(framed(models.answer(msgspec.msgpack.decode(data, type=NnAsk))))
            answers.flush()
    except MemoryError:
        return 3
    except BrokenPipeError:  # nobody listens any more
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
