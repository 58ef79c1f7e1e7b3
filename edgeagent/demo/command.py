"""``edgeagent demo``: one daemon, five functions, one satellite scene, planted fires found."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

from edgeagent.demo.chain import Step, deploy_all, run_chain
from edgeagent.demo.daemon import daemon
from edgeagent.demo.fetch import scene_files
from edgeagent.demo.picture import draw
from edgeagent.demo.plant import Fire, Score, plant, score
from edgeagent.demo.scene import Scene, generate_scene, read_landsat
from edgeagent.model.errors import EdgeError, Unavailable

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="one round, then exit (the default)")
    parser.add_argument("--keep", action="store_true", help="serve on after the round, until Ctrl-C")
    parser.add_argument("--seed", type=int, default=1, help="where the fires are planted (default 1)")
    parser.add_argument(
        "--out", type=Path, default=Path("demo-output"), metavar="DIR", help="for the picture and GeoJSON"
    )
    parser.add_argument("--generated", action="store_true", help="use the generated scene, fetch nothing")
    parser.add_argument(
        "--listen", default="127.0.0.1:0", metavar="ADDRESS:PORT", help="of the demo's daemon"
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 0 only when every planted fire was found and nothing else."""
    # A supervisor's SIGTERM must stop the daemon too: it becomes the exception that unwinds everything.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    say = _Voice(quiet=args.json)
    scene = _scene(say, generated=args.generated)
    planted, fires = plant(scene, args.seed)
    say(f"planted {len(fires)} fires (seed {args.seed}): the scene itself has none")
    with daemon(args.listen) as ready:
        say(f"daemon {ready['node']} on {ready['url']}")
        deploy_all(ready["url"])
        body = planted.encode()
        first, output = run_chain(ready["url"], body)
        steps, output = run_chain(ready["url"], body)
        result, collection = score(fires, output)
        picture = _write(args.out, planted, collection, fires, say)
        _report(say, first, steps, result, collection, fires)
        if args.json:
            _print_json(scene, result, picture, first, steps)
        if args.keep:
            say(f"serving on {ready['url']} until Ctrl-C; try: edgeagent functions --node {ready['url']}")
            _wait()
    return 0 if result.ok else 1


class _Voice:
    """Speaks to a person on stdout; with --json, to standard error, so that stdout stays one object."""

    def __init__(self, *, quiet: bool) -> None:
        self._to = sys.stderr if quiet else sys.stdout

    def __call__(self, text: str = "") -> None:
        print(text, file=self._to, flush=True)


def _scene(say: _Voice, *, generated: bool) -> Scene:
    if not generated:
        try:
            scene = read_landsat(scene_files())
            _, height, width = scene.planes.shape
            say(f"scene: Landsat 7 ETM+ of 2000-03-31, {width} x {height} pixels of 28.5 m, six bands")
            return scene
        except Unavailable as error:
            say(f"the real scene is not available: {error.message}")
            if error.hint:
                say(f"  {error.hint}")
    say("scene: GENERATED, not a satellite image")
    return generate_scene()


def _write(out: Path, scene: Scene, collection: dict[str, Any], fires: list[Fire], say: _Voice) -> str | None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "fires.geojson").write_text(json.dumps(collection, indent=1) + "\n", encoding="utf-8")
        picture = out / "scene.png"
        if draw(picture, scene, collection, fires):
            return str(picture)
    except OSError as error:
        raise EdgeError(f"cannot write to {out}: {error.strerror}", hint="choose another --out DIR") from None
    say("no picture: matplotlib is not installed (pip install 'edgeagent[demo]')")
    return None


def _report(
    say: _Voice,
    first: list[Step],
    steps: list[Step],
    result: Score,
    collection: dict[str, Any],
    fires: list[Fire],
) -> None:
    say()
    say(f"{'step':<10} {'instance':<8} {'guest ms':>9} {'total ms':>9} {'bytes in':>10} {'bytes out':>10}")
    for run_ in (first, steps):
        for step in run_:
            word = "cold" if step.cold else "warm"
            say(
                f"{step.name:<10} {word:<8} {step.duration_ms:>9.2f} {step.total_ms:>9.2f} "
                f"{step.bytes_in:>10} {step.bytes_out:>10}"
            )
        say(
            f"{'chain':<10} {'':<8} {sum(s.duration_ms for s in run_):>9.2f} {sum(s.total_ms for s in run_):>9.2f}"
        )
    say()
    for feature in collection["features"]:
        longitude, latitude = feature["geometry"]["coordinates"]
        marks = feature["properties"]
        say(
            f"fire at {latitude:.5f}, {longitude:.5f}: {marks['pixels']} pixels, {marks['area_m2'] / 1e4:.2f} ha, "
            f"SWIR2 {marks['swir2_max']:.2f}"
        )
    verdict = "ok" if result.ok else "NOT OK"
    say(
        f"{verdict}: {result.planted} planted, {result.found} found, {result.missed} missed, {result.false} false"
    )


def _print_json(
    scene: Scene, result: Score, picture: str | None, first: list[Step], steps: list[Step]
) -> None:
    document = {
        "ok": result.ok,
        "source": scene.source,
        "detections": result.document(),
        "picture": picture,
        "steps": [step.document() for step in steps],
        "runs": [
            {
                "id": number,
                "ok": result.ok,
                "steps": [s.document() for s in run_],
                "killed_step": None,
                "rerun_on": None,
            }
            for number, run_ in enumerate((first, steps), 1)
        ],
        "killed_node": None,
    }
    print(json.dumps(document), flush=True)


def _wait() -> None:
    try:
        signal.pause()
    except KeyboardInterrupt:
        return
