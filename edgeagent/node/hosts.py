"""A node's ties to other hosts: its hose listener, its configured peers, and the streams between them."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from edgeagent.mesh.tls import tls_context as keys_tls
from edgeagent.model.errors import BadConfig, Busy
from edgeagent.node.config import hose_address
from edgeagent.node.config_schema import Config, HoseSection
from edgeagent.node.hose_inbox import HoseInbox
from edgeagent.node.hose_lines import is_here
from edgeagent.node.mailboxes import Mailboxes, Message
from edgeagent.node.meters import Meters
from edgeagent.node.peer_http import PeerHttp
from edgeagent.node.peers import checked_peers
from edgeagent.node.remote_hoses import RemoteHoses
from edgeagent.runtime.port import Engine

__all__ = ["Hosts", "StreamsIn", "tls_context"]

SENDERS_MAX = 4096
SENDER_IDLE_S = 60.0
_REPLY_EXTRA_BYTES = 1 << 20


class Hosts:
    """On the event loop's thread."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        mailboxes: Mailboxes,
        meters: Meters,
        node_id: str,
    ) -> None:
        section = config.hose
        self._listen = section.listen
        self.inbox = HoseInbox(
            engine,
            meters,
            transfer_bytes_max=section.frame_bytes_max,
            held_bytes_max=section.pool_bytes_max,
            keep_s=section.keep_ms / 1000,
            tls=listener_tls(config),
        )
        self.http = PeerHttp(
            checked_peers(section.peers),
            node_id,
            reply_bytes_max=config.limits.output_bytes_max + _REPLY_EXTRA_BYTES,
            tls=_keys_tls(config, server=False),
        )
        self.remote = RemoteHoses(
            self.http,
            self.inbox,
            meters,
            node_id=node_id,
            bytes_min=section.remote_bytes_min,
            tls=tls_context(section, server=False) or _keys_tls(config, server=False),
        )
        self.streams_in = StreamsIn(mailboxes)

    async def start(self) -> None:
        """Raises BadConfig."""
        address = hose_address(self._listen)
        if address is not None:
            await self.inbox.start(*address)

    async def close(self) -> None:
        """Idempotent."""
        self.streams_in.stop()
        await self.remote.close()
        await self.inbox.close()


class StreamsIn:
    """Messages of runs at other hosts; a sender that is silent for a minute is taken for gone."""

    def __init__(self, mailboxes: Mailboxes) -> None:
        self._mailboxes = mailboxes
        self._timers: dict[tuple[str, str], asyncio.TimerHandle] = {}

    async def message(self, name: str, message: Message, sender: tuple[str, str]) -> None:
        """Returns when there is room for it. Raises NotFound, Busy; then the message has been let go."""
        try:
            self._seen(sender)
        except Busy:
            message.drop()
            raise
        await self._mailboxes.put(name, message, sender)

    def open(self, name: str, sender: tuple[str, str]) -> None:
        """The sender's stream lasts until it closes it. Raises Busy."""
        self._seen(sender)
        self._mailboxes.open(name, sender)

    def close(self, name: str, sender: tuple[str, str]) -> None:
        """The sender sends no more to this name."""
        self._mailboxes.close(name, sender)

    def stop(self) -> None:
        """Idempotent."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _seen(self, sender: tuple[str, str]) -> None:
        timer = self._timers.pop(sender, None)
        if timer is not None:
            timer.cancel()
        elif len(self._timers) >= SENDERS_MAX:
            raise Busy(f"{SENDERS_MAX} runs of other hosts send here", retry_after_s=1.0)
        loop = asyncio.get_running_loop()
        self._timers[sender] = loop.call_later(SENDER_IDLE_S, self._silent, sender)

    def _silent(self, sender: tuple[str, str]) -> None:
        del self._timers[sender]
        self._mailboxes.close_sender(sender)


def listener_tls(config: Config) -> ssl.SSLContext | None:
    """What the hose listener speaks: TLS where files are named, and with the node's keys beyond loopback.

    Raises BadConfig.
    """
    named = tls_context(config.hose, server=True)
    address = hose_address(config.hose.listen)
    if named is not None or address is None or is_here(address[0]):
        return named
    return _keys_tls(config, server=True)


def _keys_tls(config: Config, *, server: bool) -> ssl.SSLContext | None:
    return keys_tls(Path(config.mesh.keys), server=server) if config.mesh.keys else None


def tls_context(section: HoseSection, *, server: bool) -> ssl.SSLContext | None:
    """From the three files, or None where none is named: both sides show certificates of the one authority.

    Raises BadConfig where one is missing or is not what it should be.
    """
    files = {"tls_cert": section.tls_cert, "tls_key": section.tls_key, "tls_ca": section.tls_ca}
    named = {key: path for key, path in files.items() if path}
    if not named:
        return None
    for key, path in files.items():
        if not path or not Path(path).is_file():
            raise BadConfig(
                f"hose.{key} = {path!r} is no file",
                hint="TLS takes hose.tls_cert, hose.tls_key and hose.tls_ca, all three",
            )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(section.tls_cert, section.tls_key)
        context.load_verify_locations(section.tls_ca)
    except (ssl.SSLError, OSError) as error:
        raise BadConfig(
            f"hose.tls_*: the certificate, the key or the authority cannot be used: {error}"
        ) from None
    context.verify_mode = ssl.CERT_REQUIRED
    return context
