"""Reading bodies within a bound of bytes."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.client_exceptions import ClientError

from edgeagent.model.errors import BadRequest, RequestTimeout, TooLarge, UnsupportedType

__all__ = ["read_body"]

_PIECE_BYTES = 256 << 10


async def read_body(source: Any, bytes_max: int, timeout_s: float) -> bytes:
    """The whole body of a request or of a multipart part.

    Raises TooLarge as soon as that is known, RequestTimeout when it is not there in time.
    """
    if isinstance(source, web.BaseRequest):
        if "Content-Encoding" in source.headers:
            raise UnsupportedType(
                "encoded bodies are not accepted", hint="send the body without Content-Encoding"
            )
        if (source.content_length or 0) > bytes_max:
            raise TooLarge(f"the body of {source.content_length} bytes is over the limit of {bytes_max}")
        await _go_on(source)
        read = source.content.readany
    else:
        read = _chunks(source)
    pieces, total = [], 0
    try:
        async with asyncio.timeout(timeout_s):
            while piece := await read():
                total += len(piece)
                if total > bytes_max:
                    raise TooLarge(f"the body is over the limit of {bytes_max} bytes")
                pieces.append(piece)
    except TimeoutError:
        raise RequestTimeout(
            f"the body was not complete after {timeout_s:g} s, {total} bytes had come"
        ) from None
    except (ClientError, web.RequestPayloadError) as error:
        raise BadRequest(f"the body ended early or is malformed: {error}") from None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _go_on(request: web.BaseRequest) -> None:
    """Answer ``Expect: 100-continue``: only here, so that what is refused was never sent."""
    if request.headers.get("Expect", "").lower() == "100-continue" and not request.content.is_eof():
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # what was written so far is no part of the reply


def _chunks(part: Any) -> Any:
    async def read() -> bytes:
        return bytes(await part.read_chunk(_PIECE_BYTES))

    return read
