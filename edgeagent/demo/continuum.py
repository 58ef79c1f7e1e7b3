"""The demo's runs over the fleet: deployed at one edge node, placed by every node for itself, one node killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import msgspec

from edgeagent.demo.chain import STEPS, call_node, guests_directory
from edgeagent.demo.fleet import Fleet, Member, call_json
from edgeagent.model.errors import EdgeError, PeerFailed

__all__ = ["WORKFLOW", "FleetRun", "deploy_workflow", "run_killing", "run_once"]

WORKFLOW = "wildfire"
KILLED_STEP = "vet"
_LOOK_S = 0.02
_RUN_S = 90.0
_FUNCTIONS = (*STEPS, KILLED_STEP)


class FleetRun(msgspec.Struct, kw_only=True):
    """One run: ``steps`` as ``GET /v1/runs/{id}`` has them, ``output`` the alerts, ``total_ms`` what was waited."""

    id: str
    steps: list[dict[str, Any]]
    output: bytes
    total_ms: float
    orbital_s: float
    killed: Member | None = None
    rerun_on: str | None = None
    decisions: list[dict[str, Any]] = []

    def document(self) -> dict[str, Any]:
        """As ``demo --json`` gives it."""
        names = (
            "name",
            "node",
            "backend",
            "why",
            "hose",
            "cold",
            "duration_ms",
            "predicted_ms",
            "measured_ms",
        )
        steps = [{name: step[name] for name in (*names, "bytes_in", "bytes_out")} for step in self.steps]
        return {
            "id": self.id,
            "ok": True,
            "total_ms": self.total_ms,
            "steps": steps,
            "killed_step": KILLED_STEP if self.killed is not None else None,
            "rerun_on": self.rerun_on,
        }


def deploy_workflow(fleet: Fleet) -> None:
    """Functions and workflow at the origin; the other nodes get the modules when they need them."""
    directory, url = guests_directory(), fleet.origin.url
    for name in _FUNCTIONS:
        wasm = (directory / f"{name}.wasm").read_bytes()
        call_node(url, "PUT", f"/v1/functions/{name}", wasm, "application/wasm")
    spec = (directory / "wildfire.toml").read_bytes()
    call_node(url, "PUT", f"/v1/workflows/{WORKFLOW}", spec, "application/toml")


def run_once(fleet: Fleet, body: bytes) -> FleetRun:
    """Raises EdgeError with the reason where it does not succeed."""
    return _run(fleet, body, lambda view: None)


def run_killing(fleet: Fleet, body: bytes) -> FleetRun:
    """The same; the node that executes KILLED_STEP is killed (SIGKILL) while it does."""
    killed: list[Member] = []

    def watch(view: dict[str, Any]) -> None:
        step = next(one for one in view["steps"] if one["name"] == KILLED_STEP)
        if killed or step["state"] != "running" or step["node"] == fleet.origin.id:
            return
        victim = next((one for one in fleet.members if one.id == step["node"]), None)
        if victim is not None:
            os.kill(victim.pid, signal.SIGKILL)
            killed.append(victim)

    run = _run(fleet, body, watch)
    if not killed:
        raise EdgeError(f"step {KILLED_STEP} was over before its node could be killed")
    run.killed = killed[0]
    run.rerun_on = next(one["node"] for one in run.steps if one["name"] == KILLED_STEP)
    if run.rerun_on == run.killed.id:
        raise EdgeError(f"step {KILLED_STEP} was over before {run.killed.name} was killed")
    return run


def _run(fleet: Fleet, body: bytes, watch: Callable[[dict[str, Any]], None]) -> FleetRun:
    url, began = fleet.origin.url, time.perf_counter()
    orbital_s = fleet.orbital_s()
    headers, _ = call_node(
        url, "POST", f"/workflows/{WORKFLOW}", body, "application/octet-stream", {"Prefer": "respond-async"}
    )
    location = headers["location"]
    while True:
        view = call_json(url, "GET", location)
        watch(view)
        if view["state"] != "running":
            break
        if time.perf_counter() - began > _RUN_S:
            raise PeerFailed(f"run {view['id']} did not end in {_RUN_S:.0f} s")
        time.sleep(_LOOK_S)
    total_ms = round((time.perf_counter() - began) * 1000, 1)
    if view["state"] != "succeeded":
        problem = view["problem"] or {}
        raise EdgeError(
            f"run {view['id']} is {view['state']}: {problem.get('step', '')}: {problem.get('detail', '')}",
            hint=str(problem.get("hint", "")),
        )
    _, output = call_node(url, "GET", f"{location}/output", b"", "application/octet-stream")
    return FleetRun(
        id=view["id"],
        steps=view["steps"],
        output=output,
        total_ms=total_ms,
        orbital_s=orbital_s,
        decisions=view["decisions"],
    )
