"""Hoses between hosts (docs/hose-wire.md): the one place to import from."""

from __future__ import annotations

from edgeagent.hose.remote_buffers import Allocate, Buffer, Delivery, MemoryBuffer, allocate_memory
from edgeagent.hose.remote_client import RemoteClient
from edgeagent.hose.remote_listener import RemoteListener
from edgeagent.hose.remote_settings import ListenerStats, RemoteSettings, SendReport
from edgeagent.hose.tickets import Scope, Ticket

__all__ = [
    "Allocate",
    "Buffer",
    "Delivery",
    "ListenerStats",
    "MemoryBuffer",
    "RemoteClient",
    "RemoteListener",
    "RemoteSettings",
    "Scope",
    "SendReport",
    "Ticket",
    "allocate_memory",
]
