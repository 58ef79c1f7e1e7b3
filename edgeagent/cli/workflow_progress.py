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
        except KeyboardInterrupt:
            show.end()
            print(f"run {run_id} goes on: edgeagent workflow status {run_id} --follow", file=sys.stderr)
            raise
        finally:
            show.end()
        view = expect(call(node, "GET", f"/v1/runs/{run_id}")).json()
    return view


def read_events(node: str, run_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(kind, data) of each event, to the end of the run, over as many connections as it takes.

    Raises PeerFailed when the daemon has gone, or breaks off without having told anything new.
    """
    last, is_over = "", False
    while not is_over:
        asked_from = last
        try:
            for number, kind, data in _stream(node, run_id, last):
                last = number
                is_over = kind == "moved" or (kind == "state" and data.get("state") != "running")
                yield kind, data
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            if last == asked_from:
                raise PeerFailed(
                    f"the daemon at {node} went away: {str(error) or type(error).__name__}",
                    hint=f"edgeagent workflow status {run_id} asks again",
                ) from None
        else:
            if last == asked_from:
                return  # forgotten, or told in whole before: the view says how it stands


def _stream(node: str, run_id: str, after: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(id, kind, data) of what one connection brings."""
    connection = connect(node)
    try:
        headers = {"Last-Event-ID": after} if after else {}
        connection.request("GET", f"/v1/runs/{run_id}/events", headers=headers)
        reply = connection.getresponse()
        if reply.status != 200:
            return
        fields: dict[str, str] = {}
        for raw in reply:
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            if line:
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
                continue
            if "event" in fields:
                data = json.loads(fields.get("data", ""))
                if not isinstance(data, dict):
                    raise ValueError("an event that is no JSON object")
                yield fields.get("id", ""), fields["event"], data
            fields = {}
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
            text = f"{data.get('state')} at {_short(data.get('holder'))}, epoch {data.get('epoch')}"
        else:
            took_ms = data.get("measured_ms")
            took = f" in {took_ms:.1f} ms" if isinstance(took_ms, int | float) else ""
            text = f"{data.get('name')}: {data.get('state')} at {_short(data.get('node'))}{took}"
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
        if data.get("state") in _OVER:
            self._done.add(str(data.get("name")))
        words = f"{data.get('name')} {data.get('state')} at {_short(data.get('node'))}"
        self._progress.update(self._task, description=words, completed=len(self._done))

    def end(self) -> None:
        self._progress.stop()


def _short(node: Any) -> str:
    return str(node or "?")[:12]


def _shown(steps: int) -> _Silent:
    if not sys.stderr.isatty():
        return _Lines()
    try:
        return _Bar(steps)
    except ImportError:  # the extra cli is not installed
        return _Lines()
