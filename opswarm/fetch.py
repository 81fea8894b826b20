"""Asking another service over HTTP/1.1, on connections that are kept: the client of every turn's hot path.

A turn asks the model twice and a tool once. Over httpx and its layers those three requests cost more CPU than all
the rest of the turn; parsing with httptools (as uvicorn does) on plain asyncio transports costs a tenth of it. What
is rare goes over httpx: this has no redirects, no cookies, no proxies, no content codings and no HTTP/2.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

IDLE_SECONDS = 4.0
"""A connection unused for longer is not used again: uvicorn closes at 5 s, and a race lost is a request lost."""

_MOST_IDLE = 100
_MOST_BUFFERED = 1024 * 1024
_MOST_HEAD = 64 * 1024


class FetchFailed(Exception):
    """The request was not answered as HTTP has it. `kind` says what went wrong, in words for a log."""


class ConnectFailed(FetchFailed):
    """Nothing was sent: the other side can't be reached."""


class Silent(FetchFailed):
    """The other side said nothing for as long as was waited."""


class Broken(FetchFailed):
    """The connection ended in the middle, or what came is not HTTP."""


class Unreadable(FetchFailed):
    """The body is in a coding that was not asked for."""


class _Connection(asyncio.Protocol):
    """One connection: a request at a time, its answer parsed as it comes."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.open = True
        self.used_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._silence = self._since = 0.0
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self.keep = False
        self._spoilt = False
        self.error: FetchFailed | None = None
        self._begun = False
        self._head = 0
        self._chunks: deque[bytes] = deque()
        self._buffered = 0

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class.

    def data_received(self, data: bytes) -> None:
        if self.complete or not self._begun:
            # Nobody asked for this: the connection is of no more use.
            self.drop()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail(Broken("what came is not HTTP"))
        if self._buffered > _MOST_BUFFERED and not self._paused and self.open:
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        if self._begun and not self.complete:
            if self.status and error is None and not self.headers.keys() & {"content-length", "transfer-encoding"}:
                self.complete = True  # A body without a length ends with its connection.
            else:
                self._fail(Broken("the connection ended in the middle"))
        self._wake()

    # What httptools calls.

    def on_message_begin(self) -> None:
        # After a whole answer another may not come: it would be taken for the answer to the next request.
        self._spoilt = self.complete

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._spoilt:
            return
        self._head += len(name) + len(value)
        if self._head > _MOST_HEAD:
            self._fail(Broken("the head of the answer has no end"))
            return
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status: int = self._parser.get_status_code()
        if self._spoilt:
            return
        if status < 200:
            self.headers.clear()
        elif self.error is None:
            self.status = status

    def on_body(self, body: bytes) -> None:
        if self._spoilt:
            return
        self._chunks.append(body)
        self._buffered += len(body)

    def on_message_complete(self) -> None:
        if self.status and not self._spoilt:
            self.complete = True
            self.keep = self._parser.should_keep_alive()

    # What a request needs.

    def send(self, head: bytes, body: bytes, silence: float) -> None:
        self._reset()
        self._begun = True
        self._silence = silence
        self._timer = self._loop.call_later(silence, self._look)
        self.transport.write(head + body)

    async def head(self) -> None:
        """Returns when the answer has begun. Raises `Silent` or `Broken`."""
        while not self.status and self.error is None:
            await self._wait()
        if not self.status and self.error is not None:
            raise self.error

    async def chunk(self) -> bytes:
        """What has come of the body; b"" at its end. Raises `Silent` or `Broken`, what came first is given first."""
        while not self._chunks:
            if self.complete:
                return b""
            if self.error is not None:
                raise self.error
            await self._wait()
        data = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._buffered = 0
        if self._paused and self.open:
            self._paused = False
            self.transport.resume_reading()
        return data

    @property
    def reusable(self) -> bool:
        return self.open and self.complete and self.keep and not self._spoilt and self.error is None

    def done(self) -> None:
        """The request is over, however it ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def drop(self) -> None:
        self.open = False
        self.transport.abort()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        self._since = self._loop.time()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _look(self) -> None:
        """Looks whether it was waited for too long: one timer a request, not one a chunk."""
        left = self._silence
        if self._waiter is not None:
            left -= self._loop.time() - self._since
        if left <= 0:
            self._fail(Silent("no answer in time"))
            self._wake()
        else:
            self._timer = self._loop.call_later(left, self._look)

    def _fail(self, error: FetchFailed) -> None:
        self.error = self.error or error

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Answer:
    """What came back: `status`, `headers` (names in lower case), and the body, read once."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self.status = connection.status
        self.headers: Mapping[str, str] = connection.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        while data := await self._connection.chunk():
            yield data

    async def drain(self, seconds: float) -> None:
        """Reads to the end, for no longer than `seconds`: what was read to its end can be used again."""
        if self._connection.complete:
            return
        try:
            async with asyncio.timeout(seconds):
                while await self._connection.chunk():
                    pass
        except (TimeoutError, FetchFailed):
            return

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises `Broken` when it is over `limit` bytes."""
        body = bytearray()
        while data := await self._connection.chunk():
            body += data
            if len(body) > limit:
                raise Broken(f"the answer is larger than {limit} bytes")
        return bytes(body)


class Fetcher:
    """Keeps connections to any number of hosts. A caller in the middle of a request has one for itself."""

    def __init__(self, *, connect_seconds: float = 5.0) -> None:
        self._connect_seconds = connect_seconds
        self._idle: dict[tuple[str, str, int], deque[_Connection]] = {}
        self._busy: set[_Connection] = set()
        self._hosts: dict[str, tuple[tuple[str, str, int], bytes]] = {}
        self._tls: ssl.SSLContext | None = None

    @asynccontextmanager
    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, silence: float, method: str = "POST"
    ) -> AsyncIterator[Answer]:
        """Posts `body`, and gives the answer when it has begun. Left before its end it is broken off.

        `silence` is for how many seconds nothing may come. Raises `FetchFailed`, here and where the body is read.
        """
        host, start = self._host(url)
        lines = [b"%b: %b\r\n" % (_token(n), _value(v)) for n, v in headers.items()]
        head = b"".join((_token(method), start, b"content-length: %d\r\n" % len(body), *lines, b"\r\n"))
        connection = self._kept(host) or await self._connected(host)
        self._busy.add(connection)
        try:
            connection.send(head, body, silence)
            await connection.head()
            if connection.headers.get("content-encoding", "identity") != "identity":
                raise Unreadable("the body is in a coding that was not asked for")
            yield Answer(connection)
        finally:
            connection.done()
            self._busy.discard(connection)
            self._give_back(host, connection)

    async def aclose(self) -> None:
        for connection in (*self._busy, *(c for kept in self._idle.values() for c in kept)):
            connection.drop()
        self._idle.clear()

    async def __aenter__(self) -> Fetcher:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _host(self, url: str) -> tuple[tuple[str, str, int], bytes]:
        if (known := self._hosts.get(url)) is not None:
            return known
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise ConnectFailed(f"{url} is no URL") from error
        printable = url.isascii() and url.isprintable() and " " not in url
        if parts.scheme not in ("http", "https") or not parts.hostname or not printable:
            raise ConnectFailed(f"{url} is no URL of HTTP")
        host = parts.netloc.rpartition("@")[2]
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        start = f" {path} HTTP/1.1\r\nhost: {host}\r\n".encode("ascii")
        known = self._hosts[url] = (parts.scheme, parts.hostname, port), start
        return known

    def _kept(self, host: tuple[str, str, int]) -> _Connection | None:
        kept = self._idle.get(host)
        now = asyncio.get_running_loop().time()
        while kept:
            connection = kept.pop()
            if connection.open and now - connection.used_at < IDLE_SECONDS:
                return connection
            connection.drop()
        return None

    async def _connected(self, host: tuple[str, str, int]) -> _Connection:
        scheme, name, port = host
        options: dict[str, Any] = {}
        if scheme == "https":
            self._tls = self._tls or ssl.create_default_context()
            options = {"ssl": self._tls, "server_hostname": name}
        try:
            async with asyncio.timeout(self._connect_seconds):
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(_Connection, name, port, **options)
        except (OSError, TimeoutError, UnicodeError) as error:
            raise ConnectFailed(f"{name}:{port} can't be reached") from error
        return connection

    def _give_back(self, host: tuple[str, str, int], connection: _Connection) -> None:
        kept = self._idle.setdefault(host, deque())
        now = asyncio.get_running_loop().time()
        while kept and (not kept[0].open or now - kept[0].used_at >= IDLE_SECONDS):
            kept.popleft().drop()
        if connection.reusable and len(kept) < _MOST_IDLE:
            connection.used_at = now
            kept.append(connection)
        else:
            connection.drop()


def _token(name: str) -> bytes:
    if not name.isascii() or not name.replace("-", "").isalnum():
        raise ValueError("not the name of a header")
    return name.encode("ascii")


def _value(value: str) -> bytes:
    if not value.isascii() or not value.isprintable():
        raise ValueError("not the value of a header")
    return value.encode("ascii")
