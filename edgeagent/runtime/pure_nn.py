"""wasi_ephemeral_nn without the extension: the same calls, handed on the same way. The twin of native/nn."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgeagent.accel.guest_layout import Code
from edgeagent.accel.nn_layout import NN_PARAMETERS, NnErrno
from edgeagent.runtime.port import AskKind
from edgeagent.runtime.pure_accel import PureWindow

if TYPE_CHECKING:
    from edgeagent.runtime.pure_wasi import Host

__all__ = ["NN_FUNCTIONS"]


def _handed_on(function: int) -> Callable[..., int]:
    def call(host: Host, *args: int) -> int:
        if host.allocate is None:  # a start function is running, and there is nothing to work on yet
            return NnErrno.MISSING_MEMORY
        if host.call.asked is None:
            return NnErrno.UNSUPPORTED_OPERATION
        window = PureWindow(host.memory.base, host.memory.size)
        words = struct.pack(f"<{len(args)}I", *(word & 0xFFFFFFFF for word in args))
        try:
            status = host.call.ask(AskKind.NN_CALL, slot=function, extra=words, window=window)[0]
        finally:
            window.close()
        if status >= 0:
            return status
        # the engine's own: nobody serves it, or too many wait
        return NnErrno.UNSUPPORTED_OPERATION if status == Code.OFF else NnErrno.BUSY

    return call


# name -> (parameters, function); i = i32
NN_FUNCTIONS: dict[str, tuple[str, Callable[..., int]]] = {
    name: (parameters, _handed_on(number)) for number, (name, parameters) in enumerate(NN_PARAMETERS.items())
}
