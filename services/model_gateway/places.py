"""A provider's places: so many calls at a time, the others in a queue that is fair and says how long it is.

Fair means that callers take turns: who has many calls waiting does not keep out who has one. (A semaphore of asyncio
or anyio serves in order of arrival, whoever arrived, and tells no one their place.)
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Iterator

from opswarm.errors import ModelBusy


class Ticket:
    """A call's place. Leave it, whatever happened, with `leave`."""

    def __init__(self, places: Places, caller: str) -> None:
        self._places = places
        self.caller = caller
        self.held = False
        self._news = asyncio.Event()

    def tell(self) -> None:
        """Something about the queue changed."""
        self._news.set()

    async def waiting(self, seconds: float) -> AsyncGenerator[int, None]:
        """How many calls are before this one, each time that changes, until it holds a place.

        Raises `ModelBusy` when that takes more than `seconds`.
        """
        until = asyncio.get_running_loop().time() + seconds
        last = -1
        while not self.held:
            self._news.clear()
            before = self._places.before(self)
            if before != last:
                last = before
                yield before
            if self.held:
                return
            try:
                async with asyncio.timeout_at(until):
                    await self._news.wait()
            except TimeoutError:
                raise ModelBusy(
                    f"{self._places.name} had no place for this call within {seconds:.0f} s.",
                    hint="Ask again later, or raise models.queue_seconds.",
                    retry_after=60,
                ) from None

    def leave(self) -> None:
        """Gives the place back, or leaves the queue."""
        self._places.left(self)


class Places:
    """The places of the provider `name`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._size = 1
        self._taken = 0
        self._queues: OrderedDict[str, deque[Ticket]] = OrderedDict()

    @property
    def taken(self) -> int:
        return self._taken

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def join(self, caller: str, size: int, most: int) -> Ticket:
        """A ticket among `size` places.

        Raises `ModelBusy` when `most` calls wait already, or half as many of this caller: nobody fills the queue alone.
        """
        self._size = size
        ticket = Ticket(self, caller)
        own = len(self._queues.get(caller, ()))
        if self._taken >= size and (len(self) >= most or own >= max(1, most // 2)):
            raise ModelBusy(f"{len(self)} calls wait for {self.name} already.", hint="Ask again later.", retry_after=10)
        self._queues.setdefault(caller, deque()).append(ticket)
        self._admit()
        return ticket

    def before(self, ticket: Ticket) -> int:
        """How many waiting calls get a place before this one does."""
        return next((i for i, other in enumerate(self._in_order()) if other is ticket), 0)

    def left(self, ticket: Ticket) -> None:
        if ticket.held:
            ticket.held = False
            self._taken -= 1
        elif (queue := self._queues.get(ticket.caller)) is not None and ticket in queue:
            queue.remove(ticket)
            self._forget(ticket.caller)
        self._admit()

    def _admit(self) -> None:
        while self._taken < self._size and self._queues:
            caller, queue = next(iter(self._queues.items()))
            ticket = queue.popleft()
            self._queues.move_to_end(caller)
            self._forget(caller)
            ticket.held = True
            self._taken += 1
            ticket.tell()
        for queue in self._queues.values():
            for ticket in queue:
                ticket.tell()

    def _forget(self, caller: str) -> None:
        if not self._queues.get(caller, True):
            del self._queues[caller]

    def _in_order(self) -> Iterator[Ticket]:
        waiting = [list(q) for q in self._queues.values()]
        for round_ in range(max(map(len, waiting), default=0)):
            for queue in waiting:
                if round_ < len(queue):
                    yield queue[round_]
