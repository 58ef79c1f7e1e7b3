"""``edgeagent demo``: one satellite scene, planted fires found, by a fleet of eight daemons or (--nodes 1) by one."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgeagent.demo.chain import deploy_all, run_chain
from edgeagent.demo.daemon import daemon
from edgeagent.demo.fetch import scene_files
from edgeagent.demo.picture import draw
from edgeagent.demo.plant import Fire, Score, plant, score
from edgeagent.demo.report import Voice, print_document, print_json, say_fires, say_table
from edgeagent.demo.scene import Scene, generate_scene, read_landsat
from edgeagent.model.errors import EdgeError, Unavailable

if TYPE_CHECKING:
    from edgeagent.demo.continuum import FleetRun
    from edgeagent.demo.fleet import Fleet

__all__ = ["add_arguments", "run"]

_LOOK_S = 0.5
_RUNS = 4  # of the fleet; in the last one a node is killed
_MORE_RUNS = 1  # where it was too quick to be killed
_BETWEEN_S = 8.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``edgeagent demo``; ``--json`` is every command's."""
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--once", action="store_true", help="one round, then exit (the default)")
    how.add_argument("--keep", action="store_true", help="serve on after the round, until Ctrl-C")
    parser.add_argument(
        "--nodes",
        type=int,
        choices=(1, 8),
        default=8,
        help="8: cloud, ground station, edge nodes and satellites; 1: one node (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=1, help="where the fires are planted (default 1)")
    parser.add_argument(
        "--out", type=Path, default=Path("demo-output"), metavar="DIR", help="for the picture and GeoJSON"
    )
    parser.add_argument("--generated", action="store_true", help="use the generated scene, fetch nothing")
    parser.add_argument(
        "--listen", default="127.0.0.1:0", metavar="ADDRESS:PORT", help="of the daemon of --nodes 1"
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 0 only when every planted fire was found and nothing else."""
    # A supervisor's SIGTERM must stop the daemon too: it becomes the exception that unwinds everything.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    say = Voice(quiet=args.json)
    scene = _scene(say, generated=args.generated)
    planted, fires = plant(scene, args.seed)
    say(f"planted: {len(fires)} fires (seed {args.seed}), for the scene itself has none")
    if args.nodes == 8:
        return _run_fleet(args, say, planted, fires)
    return _run_one(args, say, planted, fires)


def _run_fleet(args: argparse.Namespace, say: Voice, planted: Scene, fires: list[Fire]) -> int:
    from edgeagent.demo.continuum import deploy_workflow, run_killing, run_once
    from edgeagent.demo.fleet import call_json, fleet
    from edgeagent.demo.fleet_report import fleet_document, say_run, say_sky

    body = planted.encode()
    with tempfile.TemporaryDirectory(prefix="edgeagent-demo-") as state, fleet(Path(state), say) as ships:
        ships.wait_until_met(say)
        deploy_workflow(ships)
        contacts = call_json(ships.origin.url, "GET", "/v1/contacts?hours=0.5")["contacts"]
        say_sky(say, ships, contacts)
        runs: list[FleetRun] = []
        for number in range(1, _RUNS + _MORE_RUNS + 1):
            if runs:
                time.sleep(_BETWEEN_S)  # the sky turns
            runs.append((run_killing if number >= _RUNS else run_once)(ships, body))
            say_run(say, ships, number, runs[-1])
            if runs[-1].killed is not None:
                break
        scored = [score(fires, run.output) for run in runs]
        scores = [one for one, _ in scored]
        collection = min(scored, key=lambda one: one[0].ok)[1]  # the worst is what is shown
        picture = _write(args.out, planted, collection, fires, say)
        map_ = _write_map(args.out, ships, contacts, runs)
        say_fires(say, min(scores, key=lambda one: one.ok), collection, fires)
        for path in filter(None, (picture, map_)):
            say(f"picture: {path}")
        ok = all(one.ok for one in scores) and runs[-1].killed is not None
        url = ships.origin.url if args.keep else None
        try:
            if args.json:
                pictures = (picture, map_)
                print_document(
                    fleet_document(planted.source, fires, scores, pictures, ships, runs, ok=ok, url=url)
                )
            if url:
                _serve_on(say, url)
        except KeyboardInterrupt:
            if not args.keep:
                raise
            say("stopping")
    return 0 if ok else 1


def _write_map(out: Path, ships: Fleet, contacts: list[dict[str, Any]], runs: list[FleetRun]) -> str | None:
    from edgeagent.demo.map import draw_map

    path = out / "map.png"
    try:
        return str(path) if draw_map(path, ships, contacts, runs) else None
    except OSError as error:
        raise EdgeError(f"cannot write {path}: {error.strerror}", hint="choose another --out DIR") from None


def _run_one(args: argparse.Namespace, say: Voice, planted: Scene, fires: list[Fire]) -> int:
    with tempfile.TemporaryDirectory(prefix="edgeagent-demo-") as state:
        _deploy(Path(state), args.listen, say)
        # A new daemon over the same state: what was deployed is there, and the first round loads it.
        with daemon(Path(state), args.listen) as ready:
            say(f"started again on {ready['url']}: what was deployed is still there")
            body = planted.encode()
            rounds = [run_chain(ready["url"], body) for _ in range(2)]
            result, collection = _score(fires, [done.output for done in rounds])
            picture = _write(args.out, planted, collection, fires, say)
            say_table(say, *rounds)
            say_fires(say, result, collection, fires)
            if picture:
                say(f"picture: {picture}")
            url = ready["url"] if args.keep else None
            try:
                if args.json:
                    print_json(planted.source, fires, result, picture, url, *rounds)
                if url:
                    _serve_on(say, url)
            except KeyboardInterrupt:
                if not args.keep:
                    raise
                say("stopping")
    return 0 if result.ok else 1


def _deploy(state: Path, listen: str, say: Voice) -> None:
    with daemon(state, listen) as ready:
        say(f"daemon: {ready['node']} on {ready['url']}")
        deploy_all(ready["url"])


def _score(fires: list[Fire], outputs: list[bytes]) -> tuple[Score, dict[str, Any]]:
    """Both rounds must give the same answer to the byte; raises EdgeError when they do not."""
    if len(set(outputs)) != 1:
        raise EdgeError("the same scene gave different answers")
    return score(fires, outputs[0])


def _scene(say: Voice, *, generated: bool) -> Scene:
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


def _write(out: Path, scene: Scene, collection: dict[str, Any], fires: list[Fire], say: Voice) -> str | None:
    planted = {"source": scene.source, "planted": [msgspec.structs.asdict(fire) for fire in fires]}
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "fires.geojson").write_text(json.dumps({**collection, **planted}, indent=1) + "\n", "utf-8")
        picture = out / "scene.png"
        if draw(picture, scene, collection, fires):
            return str(picture)
    except OSError as error:
        raise EdgeError(f"cannot write to {out}: {error.strerror}", hint="choose another --out DIR") from None
    say("no picture: matplotlib is not installed (pip install 'edgeagent[demo]')")
    return None


def _serve_on(say: Voice, url: str) -> None:
    say(f"serving on {url} until Ctrl-C; try: edgeagent functions --node {url}")
    # A signal that comes just before signal.pause() would be waited for in vain; this looks again.
    while True:
        time.sleep(_LOOK_S)
