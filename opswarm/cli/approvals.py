"""`opswarm approvals`, `approve` and `reject`: what waits for a person, and their answer."""

from __future__ import annotations

import json as json_
import sys
import time
from typing import Annotated, Any

import typer

from opswarm.cli import running
from opswarm.cli.calling import call
from opswarm.errors import InvalidInput
from opswarm.guard.untrusted import clean
from opswarm.settings import Settings, load

Id = Annotated[str, typer.Argument(help="The approval's id, as `opswarm approvals` shows it.")]
Reason = Annotated[str, typer.Option(help="Why; the agent is told.")]


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command()(approvals)
    app.command()(approve)
    app.command()(reject)


def approvals(
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List what waits for a person, with what each would do."""
    found = _call(load(), "GET", "/approvals")
    if json:
        typer.echo(json_.dumps(found, indent=2))
        return
    for missing in found["missing"]:
        typer.echo(f"Not asked: {clean(missing)}", err=True)
    if not found["approvals"]:
        typer.echo("Nothing waits." if not found["missing"] else "Nothing waits where it could be asked.")
    for one in found["approvals"]:
        typer.echo(_shown(one))


def approve(
    id: Id, yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask once more at a terminal.")] = False
) -> None:
    """Say yes to what waits: it is shown, and exactly that is done, once."""
    one = _call(load(), "GET", _path(id))
    if one["state"] == "waiting":
        typer.echo(_shown(one))
        if not yes and sys.stdin.isatty():
            typer.confirm("Do this?", abort=True)
    _answer(id, {"answer": "approve", "digest": one["digest"]})


def reject(id: Id, reason: Reason = "") -> None:
    """Say no to what waits."""
    _answer(id, {"answer": "reject", "reason": reason})


def _answer(id: str, body: dict[str, str]) -> None:
    one = _call(load(), "POST", _path(id), body)
    typer.echo(clean(f"{one['id']} {one['state']}: {one['summary']}"))


def _path(id: str) -> str:
    if not id.isascii() or not id.isalnum():
        raise InvalidInput("That is not the id of an approval.", hint="`opswarm approvals` lists them.")
    return f"/approvals/{id}"


def _call(settings: Settings, method: str, path: str, body: dict[str, str] | None = None) -> Any:
    return call(settings, "orchestrator", running.base_url(settings), method, path, body=body)


def _shown(one: dict[str, Any]) -> str:
    who = " for ".join((*one["principal"]["actors"], one["principal"]["subject"]))
    left = max(0, int(one["expires"] - time.time()) // 60)
    lines = [
        f"{one['id']}  {one['summary']}",
        f"  {one['tool']} of {one['server']}, risk {one['risk']}, asked by {who}, {left} min left",
        f"  {one['reason']} ({one['rule']})",
        *(f"  | {line}" for line in one["preview"].splitlines()),
        f"  opswarm approve {one['id']}   or   opswarm reject {one['id']} --reason '…'",
    ]
    return "\n".join(clean(line) for line in lines) + "\n"
