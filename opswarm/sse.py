"""Server-sent events, read from bytes as they come."""

from __future__ import annotations

from collections.abc import Iterator

from opswarm.fetch import Broken


class Events:
    """The data of each event; and where to go on, should the stream end: `last_id`, after `retry_seconds`.

    Only line feeds end a line (the carriage return before one is dropped): JSON text may hold what else does. An
    event of more than `limit` bytes is `Broken`.
    """

    def __init__(self, limit: int) -> None:
        self.last_id = ""
        self.retry_seconds = 1.0
        self._limit = limit
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def add(self, chunk: bytes) -> Iterator[bytes]:
        """The data of the events that `chunk` completes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.rstrip(b"\r").partition(b":")
            value = value.removeprefix(b" ")
            if not name and not value:
                data, self._data, self._size = b"\n".join(self._data), [], 0
                if data:
                    yield data
            elif name == b"data":
                self._data.append(value)
                self._size += len(value)
            elif name == b"id" and value.isascii():
                self.last_id = value.decode("ascii")
            elif name == b"retry" and value.isdigit():
                self.retry_seconds = min(int(value) / 1000, 30.0)
        if len(self._rest) + self._size > self._limit:
            raise Broken("an event has no end")
