"""systemd/edgeagent.service: what systemd itself says of it, and that it fits the daemon's own numbers."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from edgeagent.node.config import KEYS, Config

UNIT = Path(__file__).parents[3] / "systemd" / "edgeagent.service"
EXPOSURE_MAX = 15  # tenths: 1.5 of 10


def service() -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text(encoding="utf-8"))
    return dict(parser["Service"])


def analyze(*arguments: str, unit: Path = UNIT) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not here")
    return subprocess.run(
        [program, *arguments, str(unit)], capture_output=True, text=True, timeout=60, check=False
    )


def test_systemd_accepts_it() -> None:
    done = analyze("verify", "--man=no")
    assert (done.returncode, done.stderr.strip()) == (0, "")


def strict_variant() -> str:
    lines = [
        line for line in UNIT.read_text(encoding="utf-8").splitlines() if line != "MemoryDenyWriteExecute=no"
    ]
    strict = ("#MemoryDenyWriteExecute=yes", "#Environment=EDGEAGENT_RUNTIME_TARGET=pulley64")
    assert set(strict) <= set(lines)
    return "\n".join(line[1:] if line in strict else line for line in lines)


@pytest.mark.parametrize("variant", ["jit", "strict"])
def test_its_exposure_is_low(variant: str, tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text(encoding="utf-8") if variant == "jit" else strict_variant())
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager", unit=unit)
    assert done.returncode == 0, done.stdout[-500:]


def test_systemd_waits_longer_than_the_drain() -> None:
    assert int(service()["TimeoutStopSec"]) * 1000 > Config().drain.timeout_ms + 5000


def test_its_environment_names_keys_of_the_configuration() -> None:
    names = {f"EDGEAGENT_{key.replace('.', '_').upper()}" for key in KEYS} | {"EDGEAGENT_CONFIG"}
    used = {
        part.split("=")[0]
        for line in UNIT.read_text(encoding="utf-8").splitlines()
        if line.lstrip("#").startswith("Environment=EDGEAGENT_")
        for part in [line.lstrip("#").removeprefix("Environment=")]
        if "..." not in part
    }
    assert used
    assert used <= names


def test_it_is_what_it_must_be() -> None:
    unit = service()
    assert unit["Type"] == "notify"
    assert float(unit["WatchdogSec"]) > 0
    for key in ("StateDirectory", "CacheDirectory", "MemoryMax", "TasksMax", "OOMPolicy"):
        assert unit[key]
    assert unit["DynamicUser"] == "yes"
    assert unit["MemoryDenyWriteExecute"] == "no"
