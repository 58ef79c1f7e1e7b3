"""What a step over many items says of all its calls together."""

from __future__ import annotations

from edgeagent.node.result import Result
from edgeagent.node.runs.fan_out import _Done


def test_a_gpu_that_was_of_use_to_one_item_is_named() -> None:
    done = _Done()
    done.add(0, "a", Result(output=b"", duration_us=3), b"x")
    assert done.backend == "cpu"
    done.add(1, "b", Result(output=b"", duration_us=4, backend="gpu", cold=True), b"y")
    done.add(2, "a", Result(output=b""), b"z")
    assert (done.backend, done.cold, done.duration_us) == ("gpu", True, 7)
    assert done.nodes == {"a": 2, "b": 1}
