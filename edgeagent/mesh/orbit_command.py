"""Where this node is, from a command that is asked again and again: a GPS receiver's reader, an onboard ephemeris.

Its output is an element set (OMM or TLE), or latitude, longitude and height: ``48.2, 16.4, 171``. What fails or says
nothing that can be is logged, and what was known before stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
from collections.abc import Callable

import structlog

from edgeagent.mesh.settings import chosen_elements, own_place
from edgeagent.model.errors import BadConfig, EdgeError
from edgeagent.orbit.elements import Elements

__all__ = ["OUTPUT_BYTES_MAX", "RUN_S_MAX", "Place", "follow_command", "read_place"]

log = structlog.get_logger("mesh")

OUTPUT_BYTES_MAX = 1 << 20
RUN_S_MAX = 30.0
_NUMBERS = re.compile(rb"[\s0-9.,+-]+")

Place = Elements | tuple[float, float, float]


def words_of(command: str) -> list[str]:
    """The program and its arguments, as a shell would split them. Raises BadConfig."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise BadConfig(f"mesh.orbit_command = {command!r:.100}: {error}", hint="close the quotes") from None
    if not words:
        raise BadConfig("mesh.orbit_command is blank", hint="name a program, or leave the key away")
    return words


def read_place(output: bytes, which: str, mask_deg: float) -> Place:
    """What a command's output says. Raises BadConfig."""
    if _NUMBERS.fullmatch(output):
        place = own_place(output.decode("ascii"), mask_deg)
        if place is not None:
            return place
    return chosen_elements(output, which, "mesh.orbit_command's output")


async def run_command(words: list[str]) -> bytes:
    """Its output. Raises BadConfig when it does not end well, in time, or says too much."""
    name = words[0][:100]
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
    except OSError as error:
        raise BadConfig(
            f"mesh.orbit_command: {name}: {error.strerror}", hint="name a program that runs"
        ) from None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(RUN_S_MAX):
            output = bytearray()
            while piece := await process.stdout.read(65_536):
                output += piece
                if len(output) > OUTPUT_BYTES_MAX:
                    raise BadConfig(f"mesh.orbit_command: {name} says more than {OUTPUT_BYTES_MAX} bytes")
            code = await process.wait()
    except TimeoutError:
        raise BadConfig(f"mesh.orbit_command: {name} did not end in {RUN_S_MAX:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if code:
        raise BadConfig(f"mesh.orbit_command: {name} ended with {code}")
    return bytes(output)


async def follow_command(
    command: str, which: str, mask_deg: float, every_s: float, took: Callable[[Place], None]
) -> None:
    """Ask for ever; ``took`` gets each answer."""
    while True:
        try:
            words = words_of(command)
            took(read_place(await run_command(words), which, mask_deg))
        except EdgeError as error:
            log.warning("where this node is cannot be asked: what was known stays", why=error.message)
        await asyncio.sleep(every_s)
