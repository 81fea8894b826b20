"""Questions that are several queries: asked together, and clear about what is not there to answer them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import NoReturn

from mcp_servers.observing.values import Series
from mcp_servers.prometheus.api import PrometheusApi
from opswarm.errors import NotFound

_AT_ONCE = 4
_MOST_NAMES = 40

EXPORTERS: Mapping[str, str] = {
    "kube_": "kube-state-metrics",
    "container_": "cAdvisor (/metrics/cadvisor of the kubelet)",
    "kubelet_": "the kubelet",
    "node_": "node_exporter",
}
"""By the beginning of a metric's name, who it comes from."""


async def ask(api: PrometheusApi, queries: Mapping[str, str], at: float) -> dict[str, tuple[Series, ...]]:
    """The vectors of several queries of ours at one time, by the same keys. Raises the first failure of any."""
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(query: str) -> tuple[Series, ...]:
        async with limit:
            return (await api.query(query, at)).series

    results = await asyncio.gather(*(one(q) for q in queries.values()), return_exceptions=True)
    found: dict[str, tuple[Series, ...]] = {}
    for key, result in zip(queries, results, strict=True):
        if isinstance(result, BaseException):
            raise result
        found[key] = result
    return found


async def there(api: PrometheusApi, metrics: Sequence[str], at: float) -> set[str]:
    """Which of these metrics (names of ours) have any series at that time."""
    names = "|".join(metrics[:_MOST_NAMES])
    found = await api.query(f'count by (__name__) ({{__name__=~"{names}"}})', at)
    return {s.labels.get("__name__", "") for s in found.series}


async def missing(api: PrometheusApi, metrics: Sequence[str], at: float) -> list[str]:
    """Sentences about those of `metrics` that no series has, by who should tell them."""
    known = await there(api, metrics, at)
    sentences = []
    for prefix, exporter in EXPORTERS.items():
        mine = [m for m in metrics if m.startswith(prefix)]
        gone = [m for m in mine if m not in known]
        if gone and len(gone) == len(mine):
            sentences.append(f"{exporter} is not scraped (no {', '.join(gone)})")
        elif gone:
            sentences.append(f"{exporter} does not tell {', '.join(gone)}")
    return sentences


def refuse_missing(sentences: Sequence[str], at_least: str) -> NoReturn:
    """Raises `NotFound` with what is missing, else with `at_least`, the reason where every metric is there."""
    if sentences:
        raise NotFound(f"{'; '.join(sentences)}.", hint="targets_list shows what is scraped, and what fails.")
    raise NotFound(at_least)


def by_labels(series: Sequence[Series], *names: str) -> dict[tuple[str, ...], float]:
    """The values of a vector by some of its labels; of several the highest."""
    found: dict[tuple[str, ...], float] = {}
    for one in series:
        key = tuple(one.labels.get(n, "") for n in names)
        value = one.last.value
        found[key] = value if key not in found else max(found[key], value)
    return found
