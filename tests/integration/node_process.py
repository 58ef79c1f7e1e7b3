"""A node in a process of its own, told what to do line by line, so that tests can kill it at any moment.

``main`` reads one JSON command a line from standard input and answers one JSON line each on standard output; a command
that has been answered was acknowledged. It ends with SIGTERM, or when nobody is left who could tell it anything.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from edgeagent.model.errors import EdgeError
from edgeagent.node.config import load_config
from edgeagent.node.logs import configure
from edgeagent.node.node import Node
from tests.guests import wasm
from tests.integration.nursery import nursery

__all__ = ["NodeProcess", "main"]


def _environ(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a node that keeps everything in ``folder``."""
    return {
        "HOME": str(folder),
        "EDGEAGENT_NODE_STATE_DIR": str(folder / "state"),
        "EDGEAGENT_NODE_CACHE_DIR": str(folder / "cache"),
        "EDGEAGENT_RUNTIME_SMALL_SLOTS": "8",
        **more,
    }


class NodeProcess:
    """The test's side."""

    def __init__(self, folder: Path, **more: str) -> None:
        self._errors = (folder / "stderr.txt").open("ab")
        around = {**os.environ, **_environ(folder, **more)}
        self.process = nursery().born([], around, self._errors, module=__name__, listens=True)
        self.hello = self.answer()

    def send(self, verb: str, **arguments: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"verb": verb, **arguments}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise EOFError("the node is gone")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        self.send(verb, **arguments)
        return self.answer()

    def kill(self) -> None:
        """SIGKILL, as a power cut for the process."""
        self.process.kill()
        self.close()

    def stop(self) -> None:
        """SIGTERM: drain and close."""
        self.process.terminate()
        self.close()

    def close(self) -> None:
        """Wait for the end of the process."""
        self.process.wait(60)
        for pipe in (self.process.stdin, self.process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # a command that nobody read
                    pipe.close()


async def _do(node: Node, command: dict[str, Any]) -> dict[str, Any]:
    verb = command.pop("verb")
    if verb == "deploy":
        deployed, is_new = await node.functions.deploy(command["name"], wasm(command["guest"]))
        return {"sha256": deployed.sha256, "new": is_new}
    if verb == "list":
        return {"functions": {one.name: one.sha256 for one in node.functions.list()}}
    body = base64.b64decode(command.get("body", ""))
    if verb == "invoke":
        result = await node.invoker.invoke(command["name"], body, idempotency_key=command.get("key"))
        output = base64.b64encode(bytes(result.output)).decode()
        return {"output": output, "replayed": result.replayed, "cold": result.cold}
    if verb == "submit":
        return {"id": await node.invoker.submit(command["name"], body, idempotency_key=command.get("key"))}
    if verb == "wait":
        record = await node.invoker.background.finished(command["id"])
        view = await node.invoker.status(record.id)
        output = base64.b64encode(view.output).decode()
        return {"state": view.state, "attempts": view.attempts, "output": output, "problem": view.problem}
    if verb == "status":
        return {"state": (await node.invoker.status(command["id"])).state}
    raise ValueError(verb)


async def _answer(node: Node, line: bytes) -> None:
    try:
        answer = await _do(node, json.loads(line))
    except EdgeError as error:
        answer = {"error": error.problem()}
    print(json.dumps(answer), flush=True)  # noqa: T201 - the answer


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    settings = load_config(None, os.environ, {})
    configure(settings.log)
    node = Node(settings)
    try:
        await node.start()
    except EdgeError as error:
        print(json.dumps({"error": error.problem()}), flush=True)  # noqa: T201 - the answer
        return
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    print(json.dumps({"node": node.node_id}), flush=True)  # noqa: T201 - the answer
    reader = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks = set()

    async def read() -> None:
        while line := await reader.readline():
            task = asyncio.ensure_future(_answer(node, line))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        stopped.set()

    reading = asyncio.ensure_future(read())
    await stopped.wait()
    await node.drain()
    reading.cancel()
    await node.close()


def main() -> None:
    asyncio.run(_serve())
