"""Asking another service over HTTP/1.1, on connections that are kept: aiohttp, with nothing that is not asked for.

A turn asks the model twice and a tool once, and aiohttp does that for half of what httpx takes. No redirects, no
cookies, no proxies, no content codings; and nothing is sent twice that may have been read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp

IDLE_SECONDS = 4.0
"""A connection unused for longer is not used again: uvicorn closes at 5 s, and a race lost is a request lost."""

_UNASKED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp would add of its own accord."""


class FetchFailed(Exception):
    """The request was not answered as HTTP has it. Its text says what went wrong, in words for a log."""


class ConnectFailed(FetchFailed):
    """Nothing was sent: the other side can't be reached."""


class Silent(FetchFailed):
    """The other side said nothing for as long as was waited."""


class Broken(FetchFailed):
    """The connection ended in the middle, or what came is not HTTP."""


class Unreadable(FetchFailed):
    """The body is in a coding that was not asked for."""


class Answer:
    """What came back: `status`, `headers` (names in any case), and the body, read once."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._content = response.content
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        with _told():
            async for data in self._content.iter_any():
                yield data

    async def drain(self, seconds: float) -> None:
        """Reads to the end, for no longer than `seconds`: what was read to its end can be used again."""
        if self._content.at_eof():
            return
        try:
            async with asyncio.timeout(seconds):
                async for _ in self.chunks():
                    pass
        except (TimeoutError, FetchFailed):
            return

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises `Broken` when it is over `limit` bytes."""
        body = bytearray()
        async for data in self.chunks():
            body += data
            if len(body) > limit:
                raise Broken(f"the answer is larger than {limit} bytes")
        return bytes(body)


class _Connector(aiohttp.TCPConnector):
    """Forgets a resting connection on which more came: aiohttp would take it for the answer to the next request."""

    async def _get(self, *key: Any) -> Any:
        while (kept := await super()._get(*key)) is not None and (kept.protocol is None or kept.protocol.should_close):
            kept.close()
        return kept


class Fetcher:
    """Keeps connections to any number of hosts. A caller in the middle of a request has one for itself."""

    def __init__(self, *, connect_seconds: float = 5.0) -> None:
        self._connect_seconds = connect_seconds
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, silence: float, method: str = "POST"
    ) -> AsyncIterator[Answer]:
        """Posts `body`, and gives the answer when it has begun. Left before its end it is broken off.

        `silence` is for how many seconds nothing may come. Raises `FetchFailed`, here and where the body is read, and
        `ValueError` for a header that would be more than one, or none.
        """
        for name, value in headers.items():
            if not (name.isascii() and name.replace("-", "").isalnum() and value.isascii() and value.isprintable()):
                raise ValueError("that is no header")
        timeout = aiohttp.ClientTimeout(total=None, connect=self._connect_seconds, sock_read=silence)
        with _told():
            asked = await self._opened().request(
                method, url, data=body or None, headers=headers, timeout=timeout, allow_redirects=False
            )
        async with asked as response:
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise Unreadable("the body is in a coding that was not asked for")
            yield Answer(response)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def __aenter__(self) -> Fetcher:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _opened(self) -> aiohttp.ClientSession:
        """The session, made on first use: it belongs to the loop that runs then."""
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=_Connector(limit=0, keepalive_timeout=IDLE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_UNASKED,
                auto_decompress=False,
            )
        return self._session


@contextmanager
def _told() -> Iterator[None]:
    """aiohttp's errors as ours. A timeout that is the caller's own passes through."""
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise ConnectFailed("it can't be reached") from error
    except (aiohttp.NonHttpUrlClientError, ValueError) as error:
        raise ConnectFailed("that is no URL of HTTP") from error
    except aiohttp.SocketTimeoutError as error:
        raise Silent("no answer in time") from error
    except aiohttp.ClientError as error:
        raise Broken(f"it broke off, or is not HTTP: {type(error).__name__}") from error
