"""The command line: what a person types, each command a function here and its work in a module beside it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from opswarm import __version__
from opswarm.cli import approvals, running
from opswarm.cli.audit import audit_app
from opswarm.cli.policy import policy_app
from opswarm.cli.running import Look, Running
from opswarm.errors import InvalidInput, OpswarmError, Unauthenticated, Unavailable
from opswarm.guard import keys
from opswarm.guard.principal import Role
from opswarm.guard.tokens import AUDIENCE_GATEWAY, AUDIENCE_PERSON, AUDIENCE_TOOLS
from opswarm.guard.untrusted import clean
from opswarm.settings import Kubernetes, Settings, load

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A crew of small AI agents that looks after a Kubernetes cluster.",
)
lab_app = typer.Typer(no_args_is_help=True, help="The simulated cluster by itself.")
app.add_typer(lab_app, name="lab")
app.add_typer(policy_app, name="policy")
app.add_typer(audit_app, name="audit")
approvals.add_to(app)

USAGE = 2
NOBODY_READS = 141
"""What a shell shows for a program that a broken pipe ended: 128 + SIGPIPE."""

_AUDIENCES = (AUDIENCE_PERSON, AUDIENCE_TOOLS, AUDIENCE_GATEWAY)
Scenarios = Annotated[
    str | None, typer.Option("--scenario", help="Lab scenarios, comma-separated; 'none' for a healthy lab.")
]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")]


def _say(text: str) -> None:
    typer.echo(f"  {text}", err=True)


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine to its end, on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def _serve(work: Coroutine[Any, Any, None]) -> None:
    """Runs what serves until it is told to stop, and ends the process then."""
    from opswarm.cli.swarm import then_leave

    _run(then_leave(work))


def _port(port: int) -> int:
    if not 0 <= port <= 65535:
        raise InvalidInput(f"{port} is not a port.", hint="Use 0 to 65535.")
    return port


def _with_port(settings: Settings, port: int | None) -> Settings:
    if port is None:
        return settings
    return settings.updated({"server": settings.server.model_copy(update={"port": _port(port)})})


def _cluster(settings: Settings, context: str | None, kubeconfig: Path | None) -> Kubernetes:
    """The cluster of the flags, else of the settings."""
    given = {k: v for k, v in (("context", context), ("kubeconfig", kubeconfig)) if v is not None}
    return settings.kubernetes.model_copy(update=given)


def _look(chosen: Kubernetes, scenarios: tuple[str, ...] | None) -> Look:
    file = chosen.kubeconfig
    return Look(chosen.context, str(file.expanduser().resolve()) if file else None, scenarios)


def _scenarios(given: str | None, settings: Settings) -> tuple[str, ...]:
    if given is None:
        return settings.lab.scenarios
    return tuple(s.strip() for s in given.split(",") if s.strip() and s.strip() != "none")


@app.command()
def up(
    context: Annotated[str | None, typer.Option(help="Kubeconfig context; without one the lab is used.")] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="Kubeconfig file.")] = None,
    scenario: Scenarios = None,
    port: Port = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start in the background and return when ready.")] = False,
) -> None:
    """Start the swarm: on the lab cluster, or on the cluster of a kubeconfig context."""
    settings = _with_port(load(), port)
    chosen = _cluster(settings, context, kubeconfig)
    scenarios = _scenarios(scenario, settings)
    if (found := running.find(settings)) is not None:
        if found.is_other(_look(chosen, None if scenario is None else scenarios), port):
            raise InvalidInput(f"A swarm looking at {found.cluster} runs already.", hint="`opswarm down` first.")
        typer.echo(f"The swarm runs already, as process {found.pid}, looking at {found.cluster}.", err=True)
        _table(found)
        return
    if detach:
        _table(_detached(settings))
        return
    from opswarm.cli import swarm
    from opswarm.telemetry import configure_logging

    lab = not (chosen.context or chosen.kubeconfig or chosen.in_cluster)
    settings = settings.updated({"kubernetes": chosen})
    _logs_for_people(settings)
    configure_logging(settings.log if "log" in settings.model_fields_set else settings.log.model_copy(
        update={"format": "text", "level": "WARNING"}
    ))  # fmt: skip
    _serve(_up(settings, swarm.Choice(lab, scenarios), _look(chosen, scenarios if lab else None)))


def _logs_for_people(settings: Settings) -> None:
    """Keeps the SDKs' chatter out of a terminal."""
    os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")


async def _up(settings: Settings, choice: Any, look: Look) -> None:
    from opswarm.cli import alone, swarm

    await alone.check_database(settings, "orchestrator")
    if not choice.lab:
        await swarm.check_cluster(settings)
        _say("the cluster answers")
    async with swarm.swarm(settings, choice, _say) as found:
        running.write(settings, replace(found, look=look))
        _table(found)
        typer.echo('Ask with `opswarm ask "what is broken?"`. Ctrl-C stops everything.', err=True)
        await swarm.until_stopped()
        typer.echo("stopping …", err=True)


def _detached(settings: Settings) -> Running:
    from opswarm.cli.swarm import log_folder

    log = log_folder(settings) / "up.log"
    arguments = [a for a in sys.argv[1:] if a != "--detach"]
    with log.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "opswarm.cli.main", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if child.poll() is not None:
            lines = [x for x in log.read_text(encoding="utf-8", errors="replace").splitlines() if x.strip()]
            raise OpswarmError(lines[-1].strip() if lines else "The swarm stopped at once.")
        if (found := running.find(settings)) is not None and found.pid == child.pid:
            return found
        time.sleep(0.1)
    child.terminate()
    raise Unavailable("The swarm was not ready within 60 s.", hint=f"Look at {log}.")


def _table(found: Running) -> None:
    header = ("SERVICE", "URL", "MODEL OR CLUSTER", "STATE")
    rows = [header, *((r.service, r.url, r.model, r.state) for r in found.rows)]
    widths = [max(len(r[i]) for r in rows) for i in range(4)]
    for row in rows:
        typer.echo("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())


@app.command()
def down() -> None:
    """Stop the swarm that runs here."""
    found = running.stop(load())
    typer.echo(f"Stopped process {found.pid}.", err=True)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    agent: Annotated[str, typer.Option(help="The agent to ask; without one the orchestrator chooses.")] = "",
    json: Annotated[bool, typer.Option("--json", help="One event a line, for scripts.")] = False,
    context: Annotated[str, typer.Option(help="Continue the conversation of this context id.")] = "",
    model: Annotated[str, typer.Option(help="Tier (fast, standard, deep) or LiteLLM name to answer with.")] = "",
) -> None:
    """Ask one question and stream the answer."""
    from opswarm.cli.talk import Ask, hang_up, show

    try:
        well = _run(show(load(), Ask(question, agent, context, model), as_json=json))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        hang_up()
        raise typer.Exit(NOBODY_READS) from None
    raise typer.Exit(0 if well else 1)


@app.command()
def chat(agent: Annotated[str, typer.Option(help="The agent to talk to.")] = "") -> None:
    """Hold a conversation. Ctrl-C stops the turn; at the prompt it leaves."""
    from opswarm.cli.talk import Ask, new_context, show

    settings = load()
    context = new_context()
    typer.echo("Ask away; an empty line or Ctrl-D leaves.", err=True)
    while True:
        try:
            question = input("you> ").strip()
        except (EOFError, KeyboardInterrupt):
            typer.echo("", err=True)
            return
        except UnicodeDecodeError:
            raise InvalidInput(_NOT_TEXT) from None
        if not question:
            return
        try:
            _refuse_what_is_not_text([question])
            _run(show(settings, Ask(question, agent, context), as_json=False))
        except KeyboardInterrupt:
            typer.echo("\n(stopped)", err=True)
        except OpswarmError as error:
            typer.echo(_sentence(error), err=True)


@app.command()
def agents(json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Say who is there, and who is dead."""
    settings = load()
    url = running.base_url(settings)
    headers = {"Authorization": f"Bearer {keys.find_token(settings)}"}
    try:
        response = httpx.get(f"{url}/agents", headers=headers, timeout=10, trust_env=False)
        body = response.json()
        found = body["agents"] if response.status_code == 200 else None
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise Unavailable(f"The orchestrator does not answer at {url}.", hint="Run `opswarm up`.") from error
    if response.status_code == 401:
        raise Unauthenticated("The orchestrator does not accept this token.")
    if found is None:
        raise OpswarmError(str(body.get("error", {}).get("message", "The orchestrator refused.")))
    if json:
        import json as codec

        typer.echo(codec.dumps(found, indent=2))
        return
    for entry in found:
        skills = ", ".join(s["name"] for s in entry["skills"])
        detail = f"{clean(entry['description'])} [{skills}]" if entry["state"] == "alive" else entry["error"]
        typer.echo(f"{entry['name']:14} {entry['state']:6} {entry['url']}\n               {detail}")


@app.command()
def tasks(limit: Annotated[int, typer.Option(min=1, max=100, help="How many, newest first.")] = 20) -> None:
    """Say what was asked, and what became of it."""
    _run(_tasks(load(), limit))


async def _tasks(settings: Settings, limit: int) -> None:
    from a2a.types import TaskState

    from opswarm.a2a.client import RemoteAgent
    from opswarm.store.tasks import question_of

    async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
        agent = await RemoteAgent.connect("orchestrator", running.base_url(settings), http)
        found = await agent.tasks(keys.find_token(settings), limit=limit)
    for task in found:
        state = TaskState.Name(task.status.state).removeprefix("TASK_STATE_").lower()
        when = task.status.timestamp.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")
        question = " ".join(clean(question_of(task)).split())[:80]
        typer.echo(f"{task.id}  {when}  {state:14}  {question}")
    if not found:
        typer.echo("Nothing was asked yet.", err=True)


@app.command()
def token(
    role: Annotated[list[Role] | None, typer.Option(help="May be given again; without one, every role.")] = None,
    days: Annotated[int, typer.Option(min=1, max=365, help="How long it is good.")] = 30,
    subject: Annotated[str, typer.Option(help="Whose it is.")] = "local",
    front: Annotated[
        str, typer.Option(help="For a program that names its own users, such as openwebui; a viewer without --role.")
    ] = "",
    audience: Annotated[str, typer.Option(help=f"Where it is accepted: {', '.join(_AUDIENCES)}.")] = AUDIENCE_PERSON,
    save: Annotated[bool, typer.Option("--save", help="Keep it for this command line instead of printing it.")] = False,
) -> None:
    """Mint a person's token, or a front's, where the signing key is."""
    if not subject.strip() or not subject.isprintable() or len(subject) > 128:
        raise InvalidInput("A subject is 1 to 128 printable characters.")
    if audience not in _AUDIENCES:
        raise InvalidInput(f"No door asks for the audience '{audience}'.", hint=f"There are {', '.join(_AUDIENCES)}.")
    if save and audience != AUDIENCE_PERSON:
        raise InvalidInput(f"The command line needs a token for the audience '{AUDIENCE_PERSON}'.")
    settings = load()
    if front:
        if save or subject != "local" or audience != AUDIENCE_PERSON:
            raise InvalidInput("--front goes with --role and --days only.")
        typer.echo(keys.mint_front(settings, front, roles=role or (Role.VIEWER,), seconds=days * 86_400))
        return
    minted = keys.mint_person(
        settings, subject=subject, roles=role or tuple(Role), audience=audience, seconds=days * 86_400
    )
    if not save:
        typer.echo(minted)
        return
    keys.save_token(settings, minted)
    typer.echo(f"Saved in {keys.token_path(settings)}, good for {days} days.", err=True)


@app.command()
def pause(reason: Annotated[str, typer.Option(help="Why; everyone who is refused reads it.")] = "") -> None:
    """Have every action refused, everywhere and at once, until `opswarm resume`."""
    from opswarm.cli import control

    typer.echo(control.change(load(), paused=True, reason=reason))


@app.command()
def resume(reason: Annotated[str, typer.Option(help="Why.")] = "") -> None:
    """Let actions happen again."""
    from opswarm.cli import control

    typer.echo(control.change(load(), paused=False, reason=reason))


@app.command()
def status() -> None:
    """Say what runs here, and whether actions are paused."""
    from opswarm.cli import control

    settings = load()
    if (found := running.find(settings)) is not None:
        _table(found)
    else:
        typer.echo("No swarm was started here with `opswarm up`.", err=True)
    typer.echo(control.status(settings))


@app.command()
def costs(
    by: Annotated[str, typer.Option(help="agent, model, task, day, user or tier.")] = "model",
    days: Annotated[int, typer.Option(min=1, max=3650, help="How many days, today included.")] = 7,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say what the model calls came to."""
    from opswarm.cli import models

    found = models.costs(load(), by, days)
    typer.echo(models.as_json(found) if json else models.cost_table(found))


@app.command()
def call(
    tool: Annotated[str, typer.Argument(help="The tool, such as pods_list or rollout_restart.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE…", help="Its arguments.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Of an action: only say what would be done.")] = False,
) -> None:
    """Call a tool yourself, with no agent and no model in between. What needs an approval is asked about here."""
    from opswarm.cli.direct import called

    result = _run(called(load(), tool, words or [], dry_run))
    typer.echo(clean(result.text))
    raise typer.Exit(0 if result.ok else 1)


@app.command(name="models")
def models_() -> None:
    """Say which models stand behind each tier, in the order in which they are tried."""
    from opswarm.cli import models

    for tier, chain in models.tiers(load()).items():
        typer.echo(f"{tier:10} {' → '.join(clean(m) for m in chain)}")


@app.command()
def doctor(
    models: Annotated[bool, typer.Option("--models", help="Try each configured model too; it costs tokens.")] = False,
) -> None:
    """Say what is wrong with this installation."""
    from opswarm.cli.doctor import examine

    settings = load()
    well = True
    for finding in examine(settings):
        well = well and finding.ok
        typer.echo(f"{'ok ' if finding.ok else 'BAD'}  {finding.what}: {finding.detail}")
    if models:
        well = _run(_probe_models(settings)) and well
    raise typer.Exit(0 if well else 1)


async def _probe_models(settings: Settings) -> bool:
    from opswarm.cli import models
    from opswarm.models.probe import Fitness

    well, some = True, False
    async for found in models.probes(settings):
        some = True
        good = found.fitness is Fitness.TOOLS
        well = well and good
        for line in models.probe_lines(found):
            typer.echo(f"{'ok ' if good else 'BAD'}  {line}" if not line.startswith(" ") else line)
    if not some:
        typer.echo("ok   models: only the offline playbook is configured; there is nothing to try")
    return well


@app.command()
def serve(
    name: Annotated[str, typer.Argument(help="orchestrator, devops, gateway, …")],
    port: Port = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
) -> None:
    """Run one service alone: what a pod runs."""
    from opswarm.cli.alone import serve_service

    _serve(serve_service(load(), name, host, port))


@app.command()
def mcp(
    name: Annotated[str, typer.Argument(help="kubernetes, prometheus, github, …")],
    http: Annotated[bool, typer.Option("--http", help="Serve streamable HTTP at /mcp.")] = False,
    stdio: Annotated[bool, typer.Option("--stdio", help="Serve one desktop client over stdin and stdout.")] = False,
    port: Port = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    context: Annotated[str | None, typer.Option(help="Kubeconfig context.")] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="Kubeconfig file.")] = None,
) -> None:
    """Run one tool server alone: over HTTP for agents, over stdio for a desktop app."""
    from opswarm.cli.alone import serve_tools, serve_tools_stdio

    if http == stdio:
        raise OpswarmError("Say either --http or --stdio.")
    settings = load()
    settings = settings.updated({"kubernetes": _cluster(settings, context, kubeconfig)})
    _serve(serve_tools_stdio(settings, name) if stdio else serve_tools(settings, name, host, port))


@lab_app.command("up")
def lab_up(scenario: Scenarios = None, port: Port = None) -> None:
    """Serve the lab's Kubernetes API and print a kubeconfig for it."""
    from opswarm.cli.alone import serve_lab

    settings = load()
    chosen = settings.lab.port if port is None else _port(port)
    _serve(serve_lab(settings, _scenarios(scenario, settings), chosen))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


_NOT_TEXT = "What was typed is not valid UTF-8 text."


def _refuse_what_is_not_text(words: list[str]) -> None:
    """Bytes that are not UTF-8 come in as lone surrogates, which can be neither sent, stored nor printed."""
    try:
        "".join(words).encode()
    except UnicodeEncodeError:
        raise InvalidInput(_NOT_TEXT) from None


def _sentence(error: OpswarmError) -> str:
    """An error as a person reads it. Whoever was refused a token learns how to come by another."""
    if isinstance(error, Unauthenticated) and "opswarm token" not in error.hint:
        return f"{error.message} {keys.NEW_TOKEN}"
    return str(error)


def main() -> None:
    """Runs the command line. What a person can mend ends as one sentence and exit code 2."""
    try:
        _refuse_what_is_not_text(sys.argv[1:])
        app()
    except OpswarmError as error:
        typer.echo(_sentence(error), err=True)
        sys.exit(USAGE)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
