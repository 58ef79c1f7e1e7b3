"""State of real daemons under SIGKILL while clients write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
KILLS = 100


def test_no_kill_of_a_daemon_loses_what_was_acknowledged_or_tears_a_group(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.state_kill_child", str(tmp_path), str(KILLS)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stdout == f"kills {KILLS} lost 0 torn 0\n", done.stderr
    assert "Traceback" not in (tmp_path / "log").read_text()
