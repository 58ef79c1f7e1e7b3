"""What the demo says: to a person as text, to a program as one JSON object."""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec

from edgeagent.demo.chain import Run
from edgeagent.demo.plant import Fire, Score

__all__ = ["Voice", "print_document", "print_json", "say_fires", "say_table"]


class Voice:
    """Speaks to a person on stdout; with --json, to standard error, so that stdout stays one object."""

    def __init__(self, *, quiet: bool) -> None:
        self._to = sys.stderr if quiet else sys.stdout

    def __call__(self, text: str = "") -> None:
        print(text, file=self._to, flush=True)


def say_table(say: Voice, first: Run, last: Run) -> None:
    """Both rounds, step by step: the guest's time, and how its input reached it; then what the caller waited."""
    say()
    say(f"{'step':<10} {'instance':<8} {'ms':>9} {'hose':>6} {'bytes in':>10} {'bytes out':>10}")
    for run in (first, last):
        for step in run.steps:
            word = "cold" if step.cold else "warm"
            say(
                f"{step.name:<10} {word:<8} {step.duration_ms:>9.2f} {step.hose:>6} "
                f"{step.bytes_in:>10} {step.bytes_out:>10}"
            )
        guests = sum(step.duration_ms for step in run.steps)
        say(f"{'chain':<10} {'':<8} {guests:>9.2f}        {run.total_ms:.2f} ms over HTTP")
        say()


def say_fires(say: Voice, result: Score, collection: dict[str, Any], fires: list[Fire]) -> None:
    """What was planted, the alerts, and the verdict."""
    for fire in fires:
        say(
            f"planted  column {fire.x_px:5.1f}, row {fire.y_px:5.1f}: {fire.side_px} x {fire.side_px} pixels, "
            f"{fire.flames_m2:.0f} m2 of flames at {fire.temperature_k:.0f} K"
        )
    say()
    for number, feature in enumerate(collection["features"], 1):
        longitude, latitude = feature["geometry"]["coordinates"]
        marks = feature["properties"]
        place = f"column {marks['x_px']:5.1f}, row {marks['y_px']:5.1f}: {latitude:.5f}, {longitude:.5f}"
        size = f"{marks['pixels']} pixels, {marks['area_m2'] / 1e4:.2f} ha"
        say(f"alert {number:<2} {place}, {size}, SWIR2 {marks['swir2_max']:.2f}")
    say()
    verdict = "ok" if result.ok else "NOT OK"
    say(
        f"{verdict}: {result.planted} planted, {result.found} found, {result.missed} missed, {result.false} false"
    )


def print_json(
    source: str,
    fires: list[Fire],
    result: Score,
    picture: str | None,
    url: str | None,
    first: Run,
    last: Run,
) -> None:
    """The object of ``demo --json``: ``steps`` are the last round's, ``first_steps`` those of the round before."""
    document = {
        "ok": result.ok,
        "source": source,
        "detections": result.document(),
        "picture": picture,
        "steps": [step.document() for step in last.steps],
        "first_steps": [step.document() for step in first.steps],
        "total_ms": last.total_ms,
        "planted": [msgspec.structs.asdict(fire) for fire in fires],
        "url": url,
    }
    print_document(json.dumps(document))


def print_document(text: str) -> None:
    """The one object on stdout."""
    print(text, flush=True)
