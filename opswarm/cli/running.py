"""What is known of a swarm that runs: a small file under `home`, and asking it."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from opswarm.errors import NotFound, Unavailable
from opswarm.guard.keys import write_private
from opswarm.settings import Settings


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a service, where it is, the model or cluster behind it, and how it is."""

    service: str
    url: str
    model: str
    state: str


@dataclass(frozen=True, slots=True)
class Look:
    """What a swarm was told to look at; None where nothing was said. `scenarios` are those of a lab."""

    context: str | None = None
    kubeconfig: str | None = None
    scenarios: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Running:
    pid: int
    url: str
    cluster: str
    rows: tuple[Row, ...]
    look: Look = Look()

    def is_other(self, asked: Look, port: int | None) -> bool:
        """Whether what is asked for, as far as anything is, is not what runs. Port 0 is any port."""
        mine = self.look
        if asked.scenarios is not None and (mine.scenarios is None or set(asked.scenarios) != set(mine.scenarios)):
            return True
        return (
            asked.context not in (None, mine.context)
            or asked.kubeconfig not in (None, mine.kubeconfig)
            or port not in (None, 0, urlsplit(self.url).port)
        )


def _path(settings: Settings) -> Path:
    return settings.home / "run.json"


def write(settings: Settings, running: Running) -> None:
    write_private(_path(settings), json.dumps(asdict(running)).encode())


def clear(settings: Settings) -> None:
    _path(settings).unlink(missing_ok=True)


def find(settings: Settings) -> Running | None:
    """The swarm that runs from this `home`, or None. A file that a killed one left behind is not believed."""
    try:
        body = json.loads(_path(settings).read_text(encoding="utf-8"))
        rows = tuple(Row(**r) for r in body["rows"])
        look = Look(**body.get("look", {}))
        running = Running(int(body["pid"]), str(body["url"]), str(body["cluster"]), rows, look)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return running if _alive(running.pid) and _healthy(running.url) else None


def base_url(settings: Settings) -> str:
    """Where the orchestrator is: the swarm that runs here, else the address in the settings."""
    found = find(settings)
    return found.url if found else settings.address("orchestrator")


def stop(settings: Settings, *, seconds: float = 8.0) -> Running:
    """Stops the swarm that runs from this `home`. Raises `NotFound` when none does."""
    running = find(settings)
    if running is None:
        raise NotFound("No swarm runs here.", hint="`opswarm up` starts one.")
    os.kill(running.pid, signal.SIGTERM)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not _alive(running.pid):
            return running
        time.sleep(0.05)
    raise Unavailable(f"Process {running.pid} did not stop within {seconds:.0f} s.", hint=f"Try kill -9 {running.pid}.")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _zombie(pid)


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
