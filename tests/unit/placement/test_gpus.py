"""GPUs in placement: who counts as having one, and what steps that prefer one make of it."""

from __future__ import annotations

import random

import pytest

from edgeagent.model.gpu import GpuState
from edgeagent.placement.decide import Decision, decide
from edgeagent.placement.gpus import gpu_fault
from edgeagent.placement.network import FlatNetwork
from edgeagent.placement.settings import DecideSettings
from edgeagent.placement.views import NodeLoad, NodeView, StepAsk
from tests.unit.placement.world import explanation, views

IDS = ("a", "b", "c")
FINE = GpuState.HEALTHY


def _load(state: GpuState | None = FINE, **more: float) -> NodeLoad:
    return NodeLoad(cpu=0.2, queue=0, gpu_state=state, **more)  # type: ignore[arg-type]


def _decide(nodes: list[NodeView], *, prefers: bool = True) -> Decision:
    ask = StepAsk(name="s", exec_ms=400.0, prefers_gpu=prefers)
    settings = DecideSettings(jitter_ms=0.0, jitter_share=0.0)
    return decide(
        [ask],
        nodes,
        FlatNetwork(IDS, 5.0),
        here="a",
        now_s=1000.0,
        chance=random.Random(1),
        settings=settings,
    )


@pytest.mark.parametrize(
    ("gpu", "load", "fault"),
    [
        ("", None, "it has no GPU"),
        ("x", None, ""),  # it told what it is, and nothing of its load
        ("x", _load(None), ""),  # an older peer
        ("x", _load(), ""),
        ("x", _load(GpuState.THROTTLED), ""),
        ("x", _load(GpuState.PROBING), "its GPU is probing"),
        ("x", _load(GpuState.LOST), "its GPU is lost"),
        ("x", _load(GpuState.QUARANTINED), "its GPU is quarantined"),
        ("x", _load(gpu_temperature_c=89.0), ""),
        ("x", _load(gpu_temperature_c=90.0), "its GPU has 90 C, at most 90 C"),
        ("x", _load(GpuState.LOST, age_s=61.0), ""),  # what it is, told to all, is newer than that
    ],
)
def test_a_gpu_is_there_and_healthy_or_there_is_a_reason(gpu: str, load: NodeLoad | None, fault: str) -> None:
    assert gpu_fault(NodeView(id="n", gpu=gpu, load=load)) == fault


def test_a_step_that_prefers_a_gpu_goes_to_one() -> None:
    nodes = views(IDS, a={"load": _load()}, b={"gpu": "x", "load": _load(gpu=0.0)}, c={"load": _load()})
    assert _decide(nodes).choices[0].node == "b"
    assert _decide(nodes, prefers=False).choices[0].node == "a"


@pytest.mark.parametrize(
    "worse",
    [
        _load(gpu=0.9),
        _load(gpu=0.0, gpu_queue=4),
        _load(GpuState.THROTTLED, gpu=0.0),
        _load(GpuState.LOST, gpu=0.0),
        _load(gpu=0.0, gpu_temperature_c=95.0),
    ],
)
def test_load_heat_and_loss_count_against_a_gpu(worse: NodeLoad) -> None:
    nodes = views(IDS, b={"gpu": "x", "load": worse}, c={"gpu": "x", "load": _load(gpu=0.1)})
    assert _decide(nodes).choices[0].node == "c"


def test_no_queue_is_worse_than_no_gpu() -> None:
    crowded = _load(gpu=1.0, gpu_queue=1000)
    nodes = views(IDS, a={"load": _load()}, b={"gpu": "x", "load": crowded}, c={"load": _load()})
    found = explanation(_decide(nodes))
    assert found["b"].score_ms == pytest.approx(found["c"].score_ms)
    assert found["c"].terms is not None
    assert found["c"].terms.queue_ms >= 400.0
