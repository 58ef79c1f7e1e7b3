"""Members whose clocks are decades off: one in 1970, one ahead that is set right later."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.continuum_rig import Continuum
from tests.integration.daemon import patience
from tests.integration.test_state import get, put

HOUR_MS = "3600000"
PEER = {"Edgeagent_Durability": "peer", "Edgeagent_Deadline_Ms": "20000"}


def test_clocks_that_are_decades_off_lose_nothing(tmp_path: Path) -> None:
    of = Continuum(tmp_path, ("edge", "satellite", "satellite"), skews_s=(0, -1_795_000_000, 2_000_000_000))
    right, behind, ahead = of.nodes
    # An hour is an hour, whatever the clock says that it begins at.
    for key in ("t/plain", "t/hour"):
        ttl = {"Edgeagent_Ttl_Ms": HOUR_MS} if key == "t/hour" else {}
        wrote = put(behind, key, b"v", **PEER, **ttl)
        assert (wrote.status, wrote.headers["edgeagent-durability"] != "local") == (200, True), wrote.body
        assert [get(node, key).body for node in (right, behind)] == [b"v", b"v"], key
    assert behind.stop() == 0  # a clock that is not set takes whatever others say
    # What is written ahead goes nowhere, and says so.
    late = put(ahead, "a/x", b"v", Edgeagent_Durability="peer", Edgeagent_Deadline_Ms="300")
    assert (late.status, late.json()["durability"]) == (504, "local")
    ahead.kill()
    file = tmp_path / "odd2.json"
    file.write_text(json.dumps({"skew_s": 0, "cut": []}))
    ahead.start()
    put(ahead, "a/y", b"v")  # with a version that is ahead still: nobody has told it yet
    for _ in patience():
        if "has versions of now" in ahead.log_text():
            break
    now = put(ahead, "a/z", b"v", **PEER)
    assert now.status == 200, (now.body, ahead.log_text())
    for _ in patience():
        where = right.request("GET", "/v1/state:where?key=a/x")
        if where.status == 200 and len(where.json()["holders"]) > 1:
            break
    assert len(where.json()["holders"]) > 1, "what it wrote then has come"
    of.stop()
