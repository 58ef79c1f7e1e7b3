"""``[state]`` of a configuration."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from edgeagent.node.config_section import DAY_MS, GIB, HOUR_MS, KIB, MIB, Section

__all__ = ["StateSection"]


class StateSection(Section, frozen=True):
    """Keys that functions and clients read and write, and that nodes hand to each other."""

    bytes_max: Annotated[
        int, Meta(ge=MIB, le=64 * 1024 * GIB, description="values kept on this node; beyond: 507")
    ] = 4 * GIB
    inbound_bytes: Annotated[
        int, Meta(ge=0, le=64 * 1024 * GIB, description="of these, kept for what other nodes hand over")
    ] = 256 * MIB
    value_bytes_max: Annotated[int, Meta(ge=KIB, le=GIB, description="of one value; beyond: 413")] = 256 * MIB
    keys_max: Annotated[
        int, Meta(ge=1, le=100_000_000, description="keys kept on this node; beyond: 507")
    ] = 1_000_000
    once_prefixes: Annotated[
        str, Meta(description="beginnings of keys that are written once, by commas; runs/ always is")
    ] = ""
    owner_prefixes: Annotated[
        str, Meta(description="beginnings of keys that one node writes at a time, by commas")
    ] = ""
    replicas: Annotated[
        int, Meta(ge=0, le=8, description="other members that are to hold each write; 0: none")
    ] = 1
    tombstone_ms: Annotated[
        int, Meta(ge=1000, le=365 * DAY_MS, description="what was deleted is remembered at least this long")
    ] = DAY_MS
    run_ttl_ms: Annotated[
        int, Meta(ge=1000, le=365 * DAY_MS, description="keys of a run (runs/...) are forgotten after this")
    ] = DAY_MS
    read_ms: Annotated[
        int, Meta(ge=1, le=HOUR_MS, description="other members are given this long to answer a read")
    ] = 2_000
    scrub_bytes_per_s: Annotated[
        int, Meta(ge=0, le=GIB, description="values read again and checked in the background; 0: none")
    ] = 1 * MIB
    ground_url: Annotated[
        str,
        Meta(
            description="[state.ground] url: a Redis or Valkey server for what is to be durable on the ground, "
            "redis://HOST:PORT/DB; empty: nodes on the ground are the ground"
        ),
    ] = ""
    ground_queue_bytes: Annotated[
        int,
        Meta(ge=0, le=64 * GIB, description="writes that wait while that server is away; beyond: refused"),
    ] = 64 * MIB
