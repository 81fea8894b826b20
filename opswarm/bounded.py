"""httpx for servers that nobody here vouches for: answers have an end, and are not unpacked into something larger."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import cast

import httpx

MOST_BYTES = 8 * 1024 * 1024
"""Of one answer; a stream of events is one answer."""


class _Counted(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, request: httpx.Request, most: int) -> None:
        self._stream = stream
        self._request = request
        self._left = most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            self._left -= len(part)
            if self._left < 0:
                raise httpx.ReadError("the answer has no end", request=self._request)
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


class Bounded(httpx.AsyncHTTPTransport):
    """A transport that breaks off with `httpx.ReadError` past `most` bytes of an answer, and refuses packed ones."""

    def __init__(self, *, most: int = MOST_BYTES, verify: ssl.SSLContext | bool = True) -> None:
        super().__init__(verify=verify)
        self._most = most

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.headers["Accept-Encoding"] = "identity"
        response = await super().handle_async_request(request)
        if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            await response.aclose()
            raise httpx.DecodingError("the answer is packed, though that was not asked for", request=request)
        stream = cast(httpx.AsyncByteStream, response.stream)
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_Counted(stream, request, self._most),
            extensions=response.extensions,
        )


def is_untrusted(error: BaseException) -> bool:
    """Whether a request failed because the server's certificate is not trusted here."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
