"""`opswarm models`, `opswarm costs` and `opswarm doctor --models`: what the model gateway knows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from opswarm.cli import running
from opswarm.cli.calling import call
from opswarm.fetch import Fetcher
from opswarm.guard.keys import find_token
from opswarm.guard.untrusted import clean
from opswarm.models.client import GatewayClient
from opswarm.models.playbook import MODEL as PLAYBOOK
from opswarm.models.probe import Probe, probe
from opswarm.settings import Settings

_SECONDS = 10.0


def gateway_url(settings: Settings) -> str:
    """Where the gateway is: of the swarm that runs here, else the address in the settings."""
    found = running.find(settings)
    row = next((r for r in found.rows if r.service == "gateway"), None) if found else None
    return row.url if row else settings.address("gateway")


def _get(settings: Settings, path: str, **query: str | int) -> Any:
    return call(settings, "model gateway", gateway_url(settings), "GET", path, query=query)


def tiers(settings: Settings) -> dict[str, list[str]]:
    """Each tier's models, in the order in which they are tried, as the running gateway has them."""
    entries = _get(settings, "/v1/models")["data"]
    return {str(m["id"]): [str(n) for n in m["chain"]] for m in entries if "chain" in m}


def costs(settings: Settings, by: str, days: int) -> dict[str, Any]:
    """What calls came to in the last `days`, today included, added up by `by`."""
    found: dict[str, Any] = _get(settings, "/v1/costs", by=by, days=days)
    return found


def cost_table(found: dict[str, Any]) -> str:
    """The costs for a person."""
    header = (found["by"].upper(), "CALLS", "FAILED", "IN", "CACHED", "OUT", "USD")
    rows: list[tuple[str, ...]] = [header]
    for r in found["rows"]:
        numbers = (r["calls"], r["failed"], r["input_tokens"], r["cached_tokens"], r["output_tokens"])
        rows.append((clean(r["key"]) or "-", *(f"{n:,}" for n in numbers), _money(r)))
    widths = [max(len(r[i]) for r in rows) for i in range(len(header))]
    lines = [
        "  ".join((r[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(r[1:], widths[1:], strict=True)))) for r in rows
    ]
    for budget in found["budgets"]:
        name = f" {clean(budget['name'])}" if budget["name"] else ""
        lines.append(f"budget {budget['scope'].replace('_', ' ')}{name}: {budget['used']:.0%} used")
    return "\n".join(lines)


def _money(row: dict[str, Any]) -> str:
    if row["cost_usd"] is None:
        return "unknown"
    more = f" + {row['unpriced_calls']} calls of unknown price" if row["unpriced_calls"] else ""
    return f"{row['cost_usd']:.4f}{more}"


async def probes(settings: Settings) -> AsyncIterator[Probe]:
    """A probe of each model that stands behind a tier, one after the other. Raises `OpswarmError` without a gateway."""
    known = await asyncio.to_thread(tiers, settings)
    models = dict.fromkeys(m for chain in known.values() for m in chain if m != PLAYBOOK)
    token = find_token(settings)
    async with Fetcher() as http:
        client = GatewayClient(
            gateway_url(settings), http, lambda: token, silence_seconds=settings.models.timeout_seconds
        )
        for model in models:
            yield await probe(model, client)


def probe_lines(found: Probe) -> Sequence[str]:
    """A probe for a person."""
    tried = ", ".join(f"{'✓' if ok else '✗'} {what}" for what, ok in (*found.steps, ("JSON of a schema", found.json)))
    lines = [f"{found.model}: {found.fitness.value} ({found.seconds:.1f} s)", f"     {tried}"]
    if found.trouble:
        lines.append(f"     {clean(found.trouble)}")
    return lines


def as_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
