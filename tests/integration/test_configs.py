"""The configurations of each kind of node: valid once their keys and elements are there."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from edgeagent.orbit.omm import omm_fields
from edgeagent.orbit.walker import walker
from tests.integration.daemon import cli

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
KINDS = ("cloud", "ground", "edge", "satellite", "jetson")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("keys")
    for words in (
        ("init", str(base / "cluster")),
        ("issue", str(base / "cluster"), "--node", "a" * 32, "--out", str(base / "node")),
    ):
        done = cli("keys", *words)
        assert done.returncode == 0, done.stderr.decode()
    return base / "node"


def test_every_file_is_known() -> None:
    assert {path.stem for path in CONFIGS.glob("*.toml")} == {"local", *KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_is_valid(kind: str, keys: Path, tmp_path: Path) -> None:
    (elements,) = walker(
        total=1, planes=1, phasing=0, inclination_deg=53.0, altitude_km=550.0, epoch_us=1_790_000_000_000_000
    )
    orbit = tmp_path / "orbit.json"
    orbit.write_bytes(msgspec.json.encode([omm_fields(elements)]))
    words = ["--set", f"mesh.keys={keys}"]
    if kind == "satellite":
        words += ["--set", f"mesh.orbit={orbit}"]
    done = cli("check-config", str(CONFIGS / f"{kind}.toml"), "--json", *words)
    assert done.returncode == 0, done.stderr.decode()
    config = json.loads(done.stdout)["config"]
    assert config["placement"]["kind"] == {"jetson": "edge"}.get(kind, kind)
    assert config["mesh"]["listen"] == "0.0.0.0:8481"
    assert config["placement"]["forward"]
    assert config["placement"]["guest_work"]


def test_what_all_nodes_must_agree_on_is_the_same_in_all_files(keys: Path) -> None:
    agreed = set()
    for kind in KINDS:
        done = cli("check-config", str(CONFIGS / f"{kind}.toml"), "--json",
                   "--set", f"mesh.keys={keys}", "--set", "mesh.orbit=")  # fmt: skip
        mesh = json.loads(done.stdout)["config"]["mesh"]
        agreed.add(tuple(mesh[key] for key in ("preset", "isl", "mask_deg", "ground_network", "horizon_ms")))
    assert len(agreed) == 1
