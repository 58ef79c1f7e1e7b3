"""Following a run by its server-sent events: a progress bar on a terminal, lines elsewhere, nothing with --json."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Iterator
from typing import Any

from edgeagent.cli.client import call, connect, expect
from edgeagent.model.errors import PeerFailed

__all__ = ["follow", "read_events"]

_OVER = frozenset({"succeeded", "skipped"})


def follow(node: str, run_id: str, *, quiet: bool) -> dict[str, Any]:
    """Until the run has ended: its last view. Raises PeerFailed when the daemon goes away."""
    view = expect(call(node, "GET", f"/v1/runs/{run_id}")).json()
    if view["state"] == "running":
        show = _Silent() if quiet else _shown(len(view["steps"]))
        try:
            for kind, data in read_events(node, run_id):
                show.event(kind, data)
        finally:
            show.end()
        view = expect(call(node, "GET", f"/v1/runs/{run_id}")).json()
    return view


def read_events(node: str, run_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(kind, data) of each event, to the end of the run. Raises PeerFailed."""
    connection = connect(node)
    try:
        connection.request("GET", f"/v1/runs/{run_id}/events")
        reply = connection.getresponse()
        kind, data = "", ""
        for raw in reply:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            if line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: "):
                data = line[6:]
            elif not line and kind:
                yield kind, json.loads(data)
                kind = ""
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise PeerFailed(
            f"the daemon at {node} went away: {error}", hint=f"edgeagent workflow status {run_id} asks again"
        ) from None
    finally:
        connection.close()


class _Silent:
    def event(self, kind: str, data: dict[str, Any]) -> None:
        """One event."""

    def end(self) -> None:
        """The last one was seen."""


class _Lines(_Silent):
    def event(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "state":
            text = f"{data['state']} at {data['holder'][:12]}, epoch {data['epoch']}"
        else:
            took = "" if data["measured_ms"] is None else f" in {data['measured_ms']:.1f} ms"
            text = f"{data['name']}: {data['state']} at {data['node'][:12] or '?'}{took}"
        print(text, file=sys.stderr, flush=True)


class _Bar(_Silent):
    def __init__(self, steps: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._done: set[str] = set()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("starting", total=steps)
        self._progress.start()

    def event(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "state":
            return
        if data["state"] in _OVER:
            self._done.add(data["name"])
        words = f"{data['name']} {data['state']} at {data['node'][:8]}"
        self._progress.update(self._task, description=words, completed=len(self._done))

    def end(self) -> None:
        self._progress.stop()


def _shown(steps: int) -> _Silent:
    if not sys.stderr.isatty():
        return _Lines()
    try:
        return _Bar(steps)
    except ImportError:  # the extra cli is not installed
        return _Lines()
