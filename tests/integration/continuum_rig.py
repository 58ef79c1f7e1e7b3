"""Daemons of several kinds that know each other, for workflows over them."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.integration.daemon import Daemon, Reply, patience

__all__ = ["Continuum", "sleep_input", "spec"]


def sleep_input(milliseconds: float) -> bytes:
    """For the guest cmd_sleep."""
    return struct.pack("<Q", int(milliseconds * 1e6))


def spec(name: str, *steps: dict[str, Any], **section: Any) -> bytes:
    """A workflow as JSON."""
    return json.dumps({"workflow": {"name": name, **section}, "step": list(steps)}).encode()


class Continuum:
    """``kinds``: one daemon each, in this order; the first is where things are deployed and begin.

    ``skews_s``: how far the clock of each is off; with it members can be ``cut`` off from each other.
    """

    def __init__(
        self, folder: Path, kinds: Sequence[str], *settings: str, skews_s: Sequence[float] = ()
    ) -> None:
        self._odd: list[Path] = []
        self.nodes: list[Daemon] = []
        self.ids: list[str]
        seeds: tuple[str, ...] = ()
        for index, kind in enumerate(kinds):
            node = Daemon(
                folder / f"{kind}{index}",
                "mesh.listen=127.0.0.1:0",
                "mesh.preset=local",
                f"placement.kind={kind}",
                f"placement.labels=n{index}",
                *seeds,
                *settings,
                start=False,
            )
            if skews_s:
                self._odd.append(folder / f"odd{index}.json")
                self._odd[-1].write_text(json.dumps({"skew_s": skews_s[index], "cut": []}))
                node.program = ("-m", "tests.integration.odd_child", str(self._odd[-1]))
            node.spawn()
            self.nodes.append(node)
            if not seeds:
                node.wait_ready()
                seeds = (f"mesh.seeds={node.request('GET', '/v1/peers').json()['address']}",)
        for node in self.nodes[1:]:
            node.wait_ready()
        self.ids = [node.ready["node"] for node in self.nodes]
        for node in self.nodes:
            self._wait_for_peers(node)

    def _wait_for_peers(self, node: Daemon) -> None:
        """Until it knows what every other member can do, and that it answers."""
        for _ in patience():
            peers = node.request("GET", "/v1/peers").json()["peers"]
            told = [one for one in peers if one["capabilities"] and one["load"] and one["state"] == "alive"]
            if len(told) == len(self.nodes) - 1:
                return
        raise AssertionError(node.log_text())

    @property
    def origin(self) -> Daemon:
        return self.nodes[0]

    def cut(self, *pairs: tuple[int, int], planned_s: float = 0) -> None:
        """From now on these, by their numbers, do not reach each other; all others do. ``planned_s``: by the
        plan, and it says for how long."""
        for index, file in enumerate(self._odd):
            others = [self.ids[one] for pair in pairs for one in pair if index in pair and one != index]
            told = json.loads(file.read_text()) | {"cut": others, "planned": planned_s}
            fresh = file.with_suffix(".new")
            fresh.write_text(json.dumps(told))
            fresh.replace(file)

    def deploy(self, data: bytes) -> Reply:
        name = json.loads(data)["workflow"]["name"]
        return self.origin.request("PUT", f"/v1/workflows/{name}", data, {"Content-Type": "application/json"})

    def start(self, name: str, body: bytes = b"", **headers: str) -> str:
        reply = self.origin.request(
            "POST", f"/workflows/{name}", body, {"Prefer": "respond-async", **headers}
        )
        assert reply.status == 202, reply.body
        return str(reply.json()["id"])

    def view(self, run_id: str, node: Daemon | None = None) -> dict[str, Any]:
        found: dict[str, Any] = (node or self.origin).request("GET", f"/v1/runs/{run_id}").json()
        return found

    def until(self, run_id: str, *states: str, node: Daemon | None = None) -> dict[str, Any]:
        """Its view once it is in one of the states."""
        for _ in patience():
            view = self.view(run_id, node)
            if view["state"] in states:
                return view
        raise AssertionError(f"{self.view(run_id, node)}")

    def ended(self, run_id: str) -> dict[str, Any]:
        return self.until(run_id, "succeeded", "failed", "timed_out")

    def running_at(self, run_id: str, step: str) -> int:
        """The number of the node at which a step runs, once it does."""
        for _ in patience():
            for one in self.view(run_id)["steps"]:
                if one["name"] == step and one["state"] == "running":
                    return self.ids.index(one["node"])
        raise AssertionError(f"{step} does not run: {self.view(run_id)}")

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()
            assert "Traceback" not in node.log_text(), node.log_text()
