"""A listening socket of the server, plain or TLS."""

from __future__ import annotations

import asyncio
import ssl

from aiohttp import web

__all__ = ["Site"]

_BACKLOG = 1024


class Site(web.BaseSite):
    """aiohttp's own has no bound on how long a TLS handshake may take, and asyncio's is a minute."""

    def __init__(
        self,
        runner: web.BaseRunner,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        handshake_s: float,
    ) -> None:
        super().__init__(runner, ssl_context=tls, backlog=_BACKLOG)
        self._host = host
        self._asked_port = port
        self._handshake_s = handshake_s
        self.port = 0

    @property
    def name(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'http' if self._ssl_context is None else 'https'}://{host}:{self.port}"

    async def start(self) -> None:
        """Raises OSError."""
        await super().start()
        handler = self._runner.server
        assert handler is not None
        server = await asyncio.get_running_loop().create_server(
            handler,
            self._host,
            self._asked_port,
            ssl=self._ssl_context,
            backlog=self._backlog,
            ssl_handshake_timeout=None if self._ssl_context is None else self._handshake_s,
        )
        self._server = server
        self.port = int(server.sockets[0].getsockname()[1])
