"""`opswarm audit`: what was tried, by whom, and what came of it; and whether the record is whole."""

from __future__ import annotations

import heapq
import json as json_
import re
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import ValidationError

from opswarm.actions.chain import ANCHOR, Entry, Head, faults, unchecked
from opswarm.cli import running
from opswarm.cli.calling import call
from opswarm.errors import InvalidInput, Unavailable
from opswarm.guard.untrusted import clean
from opswarm.settings import Settings, load

audit_app = typer.Typer(invoke_without_command=True, help="What was tried, by whom, and what came of it.")

_PAGE = 1_000
_MOST_PAGES = 1_000
_UNITS = {"m": 60, "h": 3_600, "d": 86_400}


@audit_app.callback()
def audit(
    context: typer.Context,
    since: Annotated[str, typer.Option(help="How far back, such as 30m, 6h or 7d.")] = "24h",
    agent: Annotated[str, typer.Option(help="Only what this agent did.")] = "",
    tool: Annotated[str, typer.Option(help="Only this tool.")] = "",
    server: Annotated[str, typer.Option(help="Only this tool server.")] = "",
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List attempts to change something, the oldest first."""
    if context.invoked_subcommand is not None:
        return
    settings = load()
    begin = time.time() - _seconds(since)
    records = [_entries(settings, name, since=begin, tool=tool) for name in _servers(settings, server)]
    for entry in heapq.merge(*records, key=lambda e: e.at):
        chain = entry.event.caller.split(" for ")
        if agent and f"agent:{agent}" not in chain:
            continue
        typer.echo(entry.model_dump_json() if json else _line(entry))


@audit_app.command()
def verify(
    head: Annotated[
        list[str] | None,
        typer.Option(help="A head that was kept, as SERVER=NUMBER:HASH:AT:SIGNATURE; may be repeated."),
    ] = None,
    server: Annotated[str, typer.Option(help="Only this tool server.")] = "",
) -> None:
    """Check that nothing in the record was changed, removed or cut off. Exit code 1 when something was."""
    settings = load()
    heads = [_head(h) for h in head or []]
    whole = True
    for name in _servers(settings, server):
        page = _page(settings, name)
        entries = list(_entries(settings, name))
        key = load_pem_public_key(page["key"].encode())
        if not isinstance(key, Ed25519PublicKey):
            raise Unavailable(f"The audit key of {name} is none.")
        anchor = Head.parse(name, page["anchor"], ANCHOR) if page["anchor"] else None
        kept = [h for h in heads if h.server == name]
        found = faults(entries, anchor, key, kept)
        for fault in found:
            typer.echo(f"BAD  {name}: {fault}")
        for note in unchecked(anchor, kept):
            typer.echo(f"note {name}: {note}")
        whole = whole and not found
        if not found:
            first = f" from {anchor.number + 1}" if anchor else ""
            typer.echo(f"ok   {name}: {len(entries)} entries{first} are whole; head {page['head']}")
    raise typer.Exit(0 if whole else 1)


def _servers(settings: Settings, only: str) -> list[str]:
    if only:
        return [only]
    found = call(settings, "orchestrator", running.base_url(settings), "GET", "/audit")
    return [str(s) for s in found["servers"]]


def _page(settings: Settings, server: str, **query: str | int | float) -> dict[str, Any]:
    url = running.base_url(settings)
    found: dict[str, Any] = call(settings, "orchestrator", url, "GET", f"/audit/{server}", query=query)
    return found


def _entries(settings: Settings, server: str, *, since: float = 0.0, tool: str = "") -> Iterator[Entry]:
    after = 0
    for _ in range(_MOST_PAGES):
        given: dict[str, str | int | float] = {"since": since, "after": after, "limit": _PAGE}
        if tool:
            given["tool"] = tool
        try:
            page = [Entry.model_validate(e) for e in _page(settings, server, **given)["entries"]]
        except ValidationError as error:
            raise Unavailable(f"The audit of {server} can't be read.") from error
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1].number


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,6})([mhd])", text)
    if found is None:
        raise InvalidInput(f"'{text[:20]}' is not a length of time.", hint="Such as 30m, 6h or 7d.")
    return int(found[1]) * _UNITS[found[2]]


def _head(text: str) -> Head:
    server, mark, rest = text.partition("=")
    if not mark or not server:
        raise InvalidInput(
            "A head is given as SERVER=NUMBER:HASH:AT:SIGNATURE.", hint="The log has it with each entry."
        )
    return Head.parse(server, rest)


def _line(entry: Entry) -> str:
    event = entry.event
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.at))
    given = ", ".join(f"{k}={json_.dumps(v)}" for k, v in event.arguments.items())
    rule = f" [{event.rule}]" if event.rule else ""
    about = f" {event.text.splitlines()[0]}" if event.text else ""
    return clean(f"{when}  {event.event:14} {event.tool}({given}) by {event.caller}{rule}{about}")[:500]
