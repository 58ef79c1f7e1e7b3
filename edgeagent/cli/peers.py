"""``edgeagent peers``: the other members of the mesh, as this node sees them."""

from __future__ import annotations

import argparse
from typing import Any

from edgeagent.cli.client import call, expect
from edgeagent.cli.main import add_node_argument
from edgeagent.cli.output import print_json, table

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_node_argument(parser)


def run(args: argparse.Namespace) -> int:
    view = expect(call(args.node, "GET", "/v1/peers")).json()
    if args.json:
        print_json({"ok": True, **view})
        return 0
    print(
        f"{view['node'][:12]} at {view['address']}, clock {view['clock']}, health {view['health']} (0 is healthy)"
    )
    if view["name_taken"]:
        print("another node writes under this node's id: was its state directory copied?")
    if not view["peers"]:
        print(_alone(view))
        return 0
    head = ("peer", "state", "address", "where", "latency", "back at", "cpu", "heard")
    print(table(head, [_row(one) for one in view["peers"]]))
    return 0


def _alone(view: dict[str, Any]) -> str:
    if view["refused"]:
        return f"no other member is known, and {view['refused']} packets did not open: are the keys of one cluster?"
    if view["seeds"]:
        seeds = ", ".join(view["seeds"])
        return f"no other member is known: {seeds} did not answer. Is it up, and are the keys of one cluster?"
    return "no other member is known; mesh.seeds of the configuration names nodes to ask"


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    load, heard = one["load"] or {}, one["heard_s"]
    return (
        one["id"][:12],
        one["state"],
        one["address"],
        "elements contradicted" if one["contradicted"] else _where(one["place"]),
        _latency(one),
        one["returns_at"] or "-",
        "-" if load.get("cpu") is None else f"{load['cpu']:.0%}",
        "-" if heard is None else f"{heard:.0f} s ago",
    )


def _latency(one: dict[str, Any]) -> str:
    if one["in_contact"] is False:
        return "no route"
    return "-" if one["latency_ms"] is None else f"{one['latency_ms']:.1f} ms"


def _where(place: dict[str, Any] | None) -> str:
    if place is None:
        return "-"
    if place["kind"] == "ground":
        return f"{place['latitude_deg']:.2f} {place['longitude_deg']:.2f}"
    words = [str(place.get("object", "-"))]
    if "latitude_deg" in place:
        words.append(
            f"{place['latitude_deg']:.2f} {place['longitude_deg']:.2f} {place['altitude_km']:.0f} km"
        )
    where = " ".join(words)
    if place.get("sunlit") is False:
        where += ", dark"
    if place.get("elements", "fresh") != "fresh":
        where += f", elements {place['elements']} ({place['elements_age_days']:.1f} days)"
    return where
