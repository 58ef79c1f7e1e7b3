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
from edgeagent.model.errors import PeerFailed

__all__ = ["WORKFLOW", "FleetRun", "deploy_workflow", "run_killing", "run_once"]

WORKFLOW = "wildfire"
KILLED_STEP = "vet"
_LOOK_S = 0.02
_RUN_S = 90.0
_FUNCTIONS = (*STEPS, KILLED_STEP)
_NOTHING = b'{"type": "FeatureCollection", "features": []}'


class FleetRun(msgspec.Struct, kw_only=True):
    """One run: ``steps`` as ``GET /v1/runs/{id}`` has them, ``output`` the alerts, ``total_ms`` what was waited.

    ``problem`` says why it did not succeed, "" where it did; then ``output`` has no alerts. ``killed`` is the node that
    was killed while it executed KILLED_STEP, ``rerun_on`` the one that executed it instead.
    """

    id: str
    steps: list[dict[str, Any]]
    output: bytes
    total_ms: float
    orbital_s: float
    killed: Member | None = None
    rerun_on: str | None = None
    problem: str = ""
    decisions: list[dict[str, Any]] = []

    def document(self, *, ok: bool) -> dict[str, Any]:
        """As ``demo --json`` gives it; ``ok``: it found all fires and nothing else."""
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
        steps = [
            {name: step[name] for name in (*names, "bytes_in", "bytes_out", "cost_usd")}
            for step in self.steps
        ]
        return {
            "id": self.id,
            "ok": ok,
            "problem": self.problem or None,
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
    """A run that does not succeed says why. Raises PeerFailed where the origin does not answer."""
    return _run(fleet, body, lambda view: None)


def run_killing(fleet: Fleet, body: bytes) -> FleetRun:
    """The same; the node that executes KILLED_STEP is killed (SIGKILL) while it does.

    ``killed`` stays None where it could not be: the step was over, or it was the origin's.
    """
    struck: list[Member] = []

    def watch(view: dict[str, Any]) -> None:
        step = _killed_step(view["steps"])
        if struck or step["state"] != "running" or step["node"] == fleet.origin.id:
            return
        victim = next((one for one in fleet.members if one.id == step["node"]), None)
        if victim is not None:
            os.kill(victim.pid, signal.SIGKILL)
            struck.append(victim)

    run = _run(fleet, body, watch)
    executed_on = _killed_step(run.steps)["node"]
    if struck and executed_on != struck[0].id:  # else its result was out before it died
        run.killed, run.rerun_on = struck[0], executed_on
    return run


def _killed_step(steps: list[dict[str, Any]]) -> dict[str, Any]:
    return next(one for one in steps if one["name"] == KILLED_STEP)


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
    output, problem = _NOTHING, ""
    if view["state"] == "succeeded":
        _, output = call_node(url, "GET", f"{location}/output", b"", "application/octet-stream")
    else:
        told = view["problem"] or {}
        words = (view["state"], told.get("step"), told.get("detail"), told.get("hint"))
        problem = ": ".join(str(word) for word in words if word)
    return FleetRun(
        id=view["id"],
        steps=view["steps"],
        output=output,
        total_ms=total_ms,
        orbital_s=orbital_s,
        problem=problem,
        decisions=view["decisions"],
    )
