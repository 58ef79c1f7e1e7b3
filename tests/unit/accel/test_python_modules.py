"""Modules that lie beside a Python program, which the identifier reads too where it can."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeagent.accel.modes import decide
from edgeagent.accel.python_scan import scan_python
from edgeagent.cli.main import main

OWN = {
    "ops.py": b"import numpy as np\ndef gram(n):\n    return np.ones((n, n)) @ np.ones((n, n))\n",
    "pack/__init__.py": b"SIZE = 3000\n_HIDDEN = 1\n",
    "pack/place.py": b"import torch\n\nclass Model:\n    def run(self, x):\n        return x.cuda()\n",
    "circle.py": b"import circle\nimport numpy\ndef f():\n    return numpy.ones(3)\n",
    "broken.py": b"def f(:\n",
    "free/sky.py": b"COLOUR = 1\n",
    "free/under/ground.py": b"import numpy\ndef f():\n    return numpy.ones(3)\n",
}
PLAIN = "def handle(e):\n    return "


@pytest.mark.parametrize(
    ("source", "mode", "where"),
    [
        (f"from ops import gram\n{PLAIN}gram(3000)", "gpu_preferred", "ops.py line 3"),
        (f"import ops\n{PLAIN}ops.gram(10)", "cpu_preferred", "ops.py line 3"),
        (f"import ops as o\nfrom pack import *\n{PLAIN}o.gram(SIZE)", "gpu_preferred", "ops.py line 3"),
        (f"from pack import place\n{PLAIN}place.Model().run(e)", "gpu", "pack/place.py line 5"),
        (f"from .pack.place import Model\n{PLAIN}Model().run(e)", "gpu", "pack/place.py line 5"),
        (f"import pack.place\n{PLAIN}pack.place.Model().run(e)", "gpu", "pack/place.py line 5"),
        (
            f"import free.under.ground\n{PLAIN}free.under.ground.f()",
            "cpu_preferred",
            "free/under/ground.py line 3",
        ),
        (f"from . import ops\n{PLAIN}ops.gram(10)", "cpu_preferred", "ops.py line 3"),
        (f"import circle\n{PLAIN}circle.f()", "cpu_preferred", "circle.py line 4"),
        (f"import broken\n{PLAIN}broken.f()", "cpu", "python source"),
        (f"from pack import SIZE\n{PLAIN}SIZE", "cpu", "python source"),
        (
            f"import free.under.ground\nimport free.sky\n{PLAIN}free.under.ground.f()",
            "cpu_preferred",
            "free/under/ground.py line 3",
        ),
    ],
)
def test_own_modules_are_read_too(source: str, mode: str, where: str) -> None:
    found = decide(scan_python(source.encode(), beside=OWN.get))
    assert found.mode == mode
    assert found.rationale[0].where == where


def test_an_own_module_that_is_not_there_leaves_doubt() -> None:
    found = decide(scan_python(f"from .ops import gram\n{PLAIN}gram(3000)".encode()))
    assert (found.mode, found.confidence) == ("cpu", 0.6)
    assert "imports .ops, which is not read" in [one.evidence for one in found.rationale]


def test_inspect_reads_what_lies_beside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in OWN.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(text)
    (tmp_path / "large.py").write_bytes(b"#" * (3 << 20))
    (tmp_path / "f.py").write_text(f"import ops, large, nowhere\n{PLAIN}ops.gram(3000)")
    assert main(["inspect", str(tmp_path / "f.py")]) == 0
    assert "ops.py line 3" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["pipe", "folder", "n" * 300])
def test_inspect_waits_for_no_pipe_that_lies_beside(tmp_path: Path, name: str) -> None:
    """Nor does it stumble over a folder, or over a name that no file can have."""
    (tmp_path / "folder.py").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "f.py").write_text(f"import numpy, {name}\n{PLAIN}numpy.ones(3)")
    assert main(["inspect", str(tmp_path / "f.py")]) == 0


def test_what_lies_beside_is_looked_for_once() -> None:
    asked: list[str] = []

    def beside(name: str) -> bytes | None:
        asked.append(name)
        return OWN.get(name)

    lines = "import broken, nowhere, ops\n" * 9
    scan_python(lines.encode(), beside=beside)
    assert asked == ["broken.py", "nowhere.py", "nowhere/__init__.py", "ops.py"]


def test_many_libraries_leave_room_for_own_modules() -> None:
    lines = "".join(f"import library_{n}\n" for n in range(99))
    source = f"{lines}from ops import gram\n{PLAIN}gram(3000)"
    assert decide(scan_python(source.encode(), beside=OWN.get)).mode == "gpu_preferred"
