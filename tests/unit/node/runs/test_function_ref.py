"""Which functions may be run again elsewhere."""

from __future__ import annotations

import pytest

from edgeagent.model.function import Deployed, FunctionSection, Hose, Import, Manifest, ModuleInfo
from edgeagent.node.runs.function_ref import ref_of


@pytest.mark.parametrize(
    ("imports", "output", "repeatable"),
    [
        ((), "", True),
        ((), "frames", False),
        ((("edge_hose", "recv"),), "", True),
        ((("edge_hose", "send"),), "", False),
        ((("edge_state", "get"), ("edge_state", "put"), ("edge_state", "group")), "", True),
        ((("edge_state", "get"), ("edge_state", "cas")), "", False),
    ],
)
def test_what_leaves_a_function_while_it_runs(
    imports: tuple[tuple[str, str], ...], output: str, repeatable: bool
) -> None:
    deployed = Deployed(
        name="f",
        sha256="0" * 64,
        abi="bytes",
        manifest=Manifest(function=FunctionSection(name="f"), hose=Hose(output=output)),
        info=ModuleInfo(
            sha256="0" * 64, size_bytes=1, abi="bytes", imports=tuple(Import(*one) for one in imports)
        ),
        deployed_at="2026-01-01T00:00:00Z",
    )
    assert ref_of(deployed).repeatable is repeatable
