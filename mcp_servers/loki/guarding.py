"""What keeps a question from reading the whole store: the selector, the range of time, and the bytes it would read."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_servers.loki.api import LokiApi
from mcp_servers.loki.selecting import known_stats, matchers, reach, selectors
from mcp_servers.observing.times import spelt
from mcp_servers.observing.values import size
from opswarm.errors import InvalidInput, LimitExceeded


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that one question may look at: seconds of time, and bytes of lines."""

    seconds: float
    bytes: int


async def guard(api: LokiApi, budget: Budget, query: str, start: int, end: int) -> list[str]:
    """What is to be said beside the answer of a query that may be asked; a range in it counts with the window.

    Raises `InvalidInput` for a query without a selector, or with one that everything matches, and `LimitExceeded`
    with what to narrow.
    """
    found = selectors(query)
    if not found and "{" in query:
        raise InvalidInput(
            "The query has no stream selector that can be read: a brace or a quote is not closed, or it is empty.",
            hint='Write it like {namespace="media"} |= "error".',
        )
    if not found:
        raise InvalidInput("The query has no stream selector.", hint='Begin it like {namespace="media"} |= "error".')
    start -= round(reach(query) * 1e9)
    if (end - start) / 1e9 > budget.seconds:
        raise LimitExceeded(
            f"That is {spelt((end - start) / 1e9)} of logs; at most {spelt(budget.seconds)} are looked at.",
            hint="Move start and end closer, or set loki.most_hours.",
        )
    total = 0
    for one in dict.fromkeys(found):
        if all(m.matches({}) for m in matchers(one)):
            raise InvalidInput(
                "The selector matches every stream.", hint='Name one label by its value, such as {namespace="media"}.'
            )
        stats = await known_stats(api, one, start, end)
        if stats is None:
            return ["(how much that reads is not known: this Loki has no index statistics)"]
        total += stats.bytes
    if total > budget.bytes:
        raise LimitExceeded(
            f"That would read {size(total)}B of logs; at most {size(budget.bytes)}B are read for one question.",
            hint="Add a label to the selector (a pod, a container), shorten the time, or set loki.most_bytes.",
        )
    return []
