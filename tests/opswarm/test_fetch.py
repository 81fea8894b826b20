"""The hot path's HTTP client, against servers that answer anything at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from opswarm import fetch
from opswarm.fetch import Broken, ConnectFailed, Fetcher, FetchFailed, Silent, Unreadable
from tests.support.hosting import free_port, until


class Server:
    """Speaks bytes. `handler` gets each connection; what was asked is kept."""

    def __init__(self, *answers: bytes, hold: bool = False, stay: bool = True) -> None:
        self.answers = answers
        self.hold = hold
        self.stay = stay
        self.requests: list[bytes] = []
        self.connections = self.open = self.sent = 0
        self.left = asyncio.Event()
        self.url = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
                self.requests.append(head + await reader.readexactly(length))
                for part in self.answers:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.005)
                    self.sent += 1
                if self.hold:
                    await reader.read()
                    break
                if not self.stay:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            self.left.set()
            writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/path?q=1"
        try:
            yield self
        finally:
            listening.close()


async def ask(server: Server, times: int = 1, *, silence: float = 5.0) -> list[tuple[int, bytes]]:
    found = []
    async with server.running(), Fetcher() as http:
        for _ in range(times):
            async with http.post(server.url, b"hello", {"X-Who": "me"}, silence=silence) as answer:
                found.append((answer.status, await answer.read(1_000)))
    return found


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def test_a_request_is_sent_as_http_has_it_and_the_connection_is_used_again() -> None:
    server = Server(OK)
    assert await ask(server, 3) == [(200, b"ok")] * 3
    assert server.connections == 1
    host = server.url.split("/")[2].encode()
    asked, _, body = server.requests[0].partition(b"\r\n\r\n")
    line, *headers = asked.split(b"\r\n")
    assert (line, body) == (b"POST /path?q=1 HTTP/1.1", b"hello")
    assert sorted(headers) == [b"Content-Length: 5", b"Host: " + host, b"X-Who: me"]


@pytest.mark.parametrize(
    "answer",
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n", b"1\r\nk\r\n0\r\n\r\n"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", OK),
        tuple(OK[i : i + 1] for i in range(len(OK))),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: \xe9\r\n\r\n", b"ok"),
    ],
)
async def test_an_answer_is_read_however_it_is_cut(answer: tuple[bytes, ...]) -> None:
    assert await ask(Server(*answer), 2) == [(200, b"ok")] * 2


async def test_a_body_without_a_length_ends_with_its_connection() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\n\r\n", b"o", b"k", stay=False)
    assert await ask(server, 2) == [(200, b"ok")] * 2
    assert server.connections == 2


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", b"HTTP/1.1 2", b"", b"SSH\r\n"])
async def test_what_breaks_off_or_is_not_http_is_broken(answer: bytes) -> None:
    with pytest.raises(Broken):
        await ask(Server(answer, stay=False))


async def test_what_came_before_a_break_is_given_first() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", stay=False)
    got = b""
    async with server.running(), Fetcher() as http:
        with pytest.raises(Broken):
            async with http.post(server.url, b"", {}, silence=5) as answer:
                async for chunk in answer.chunks():
                    got += chunk
    assert got == b"ok"


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"])
async def test_silence_is_not_waited_for_for_ever(begun: bytes) -> None:
    server = Server(begun, hold=True)
    with pytest.raises(Silent):
        await ask(server, silence=0.1)
    await asyncio.wait_for(server.left.wait(), 5)


async def test_a_slow_reader_is_no_silence() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n", b"ok", b"ok")
    got = b""
    async with server.running(), Fetcher() as http, http.post(server.url, b"", {}, silence=0.1) as answer:
        async for chunk in answer.chunks():
            got += chunk
            await asyncio.sleep(0.2)
    assert got == b"okok"


async def test_who_leaves_in_the_middle_breaks_the_request_off() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", hold=True)
    async with server.running(), Fetcher() as http:
        async with http.post(server.url, b"", {}, silence=5) as answer:
            async for _ in answer.chunks():
                break
        await asyncio.wait_for(server.left.wait(), 5)


async def test_a_connection_that_the_other_side_closed_is_not_used_again() -> None:
    server = Server(OK, stay=False)
    async with server.running(), Fetcher() as http:
        for n in range(3):
            async with http.post(server.url, b"", {}, silence=5) as answer:
                assert await answer.read(10) == b"ok"
            await until(lambda n=n: server.open == 0 and server.connections == n + 1)
            await asyncio.sleep(0.01)
    assert server.connections == 3


async def test_what_may_have_been_read_is_not_sent_again() -> None:
    server = Server(OK)
    async with server.running(), Fetcher() as http:
        async with http.post(server.url, b"first", {}, silence=5) as answer:
            await answer.read(10)
        await until(lambda: server.sent == 1)
        server.answers, server.stay = (), False
        with pytest.raises(Broken):
            async with http.post(server.url, b"second", {}, silence=5):
                pass
    assert [r.partition(b"\r\n\r\n")[2] for r in server.requests] == [b"first", b"second"]
    assert server.connections == 1


async def test_a_connection_that_rested_for_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "IDLE_SECONDS", 0.0)
    server = Server(OK)
    await ask(server, 2)
    assert server.connections == 2


async def test_an_answer_that_asks_to_close_is_the_last_of_its_connection() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")
    await ask(server, 2)
    assert server.connections == 2


async def test_bytes_after_the_answer_are_never_the_answer_to_the_next() -> None:
    evil = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
    assert await ask(Server(OK + evil), 2) == [(200, b"ok")] * 2
    with pytest.raises(Broken):
        await ask(Server(OK + b"x"))


async def test_bytes_that_nobody_asked_for_are_never_the_answer_to_the_next() -> None:
    server = Server(OK, OK.replace(b"ok", b"no"))
    async with server.running(), Fetcher() as http:
        for n in range(3):
            async with http.post(server.url, b"", {}, silence=5) as answer:
                assert await answer.read(10) == b"ok"
            await until(lambda n=n: server.sent == 2 * (n + 1))
            await asyncio.sleep(0.01)
    assert server.connections == 3


async def test_what_is_larger_than_its_limit_is_not_read() -> None:
    big = b"HTTP/1.1 200 OK\r\ncontent-length: 2000000\r\n\r\n" + b"x" * 2_000_000
    with pytest.raises(Broken, match="larger"):
        await ask(Server(big))
    with pytest.raises(Broken):
        await ask(Server(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n"))


async def test_a_large_body_is_read_no_faster_than_it_is_used() -> None:
    part, parts = b"x" * 2_000_000, 20
    server = Server(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (len(part) * parts), *[part] * parts)
    size = 0
    async with server.running(), Fetcher() as http, http.post(server.url, b"", {}, silence=5) as answer:
        await asyncio.sleep(0.3)
        assert server.sent < parts / 2  # The rest waits for room in the kernel's buffers.
        async for chunk in answer.chunks():
            size += len(chunk)
    assert size == len(part) * parts


async def test_a_line_may_be_of_any_length() -> None:
    line = b"data: " + b"x" * 500_000 + b"\n\n"
    server = Server(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(line), line[:100_000], line[100_000:])
    async with server.running(), Fetcher() as http, http.post(server.url, b"", {}, silence=5) as answer:
        assert await answer.read(len(line)) == line


async def test_nothing_is_followed_kept_or_asked_for_that_was_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    server = Server(b"HTTP/1.1 302 Found\r\nset-cookie: a=b\r\nlocation: /other\r\ncontent-length: 2\r\n\r\nok")
    assert await ask(server, 2) == [(302, b"ok")] * 2
    assert len(server.requests) == 2
    assert not any(b"cookie" in r.lower() or b"accept" in r.lower() for r in server.requests)


async def test_a_coding_that_was_not_asked_for_is_told() -> None:
    with pytest.raises(Unreadable):
        await ask(Server(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nok"))


@pytest.mark.parametrize("url", ["http://", "ftp://x/", "http://x:99999/", "http://x y/", "nonsense", "http://[::1/"])
async def test_what_is_no_url_can_not_be_reached(url: str) -> None:
    async with Fetcher() as http:
        with pytest.raises(ConnectFailed):
            async with http.post(url, b"", {}, silence=1):
                pass


async def test_nobody_there_can_not_be_reached() -> None:
    async with Fetcher() as http:
        with pytest.raises(ConnectFailed):
            async with http.post(f"http://127.0.0.1:{free_port()}", b"", {}, silence=1):
                pass


@pytest.mark.parametrize(("name", "value"), [("X", "a\r\nEvil: 1"), ("X\r\nEvil", "a"), ("X", "\u20ac"), ("X y", "a")])
async def test_no_header_can_hold_another(name: str, value: str) -> None:
    server = Server(OK)
    async with server.running(), Fetcher() as http:
        with pytest.raises(ValueError):
            async with http.post(server.url, b"", {name: value}, silence=1):
                pass
    assert not server.requests


async def test_many_at_once_have_each_a_connection() -> None:
    server = Server(OK)
    async with server.running(), Fetcher() as http:

        async def one() -> bytes:
            async with http.post(server.url, b"", {}, silence=5) as answer:
                return await answer.read(10)

        assert await asyncio.gather(*(one() for _ in range(20))) == [b"ok"] * 20
        assert await asyncio.gather(*(one() for _ in range(20))) == [b"ok"] * 20
    assert server.connections == 20


async def test_connections_that_nobody_needs_any_more_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "IDLE_SECONDS", 0.05)
    server = Server(OK)
    async with server.running(), Fetcher() as http:

        async def one() -> None:
            async with http.post(server.url, b"", {}, silence=5) as answer:
                await answer.read(10)

        await asyncio.gather(*(one() for _ in range(20)))
        await until(lambda: server.open == 0)


async def test_closing_breaks_off_what_is_at_work() -> None:
    server = Server(hold=True)
    async with server.running():
        http = Fetcher()

        async def one() -> None:
            async with http.post(server.url, b"", {}, silence=30):
                pass

        asking = asyncio.create_task(one())
        await until(lambda: bool(server.requests))
        await http.aclose()
        with pytest.raises(FetchFailed):
            await asyncio.wait_for(asking, 5)
