"""`opswarm doctor`: what is wrong with this installation, a line a check."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx

from opswarm.cli import registry, running
from opswarm.errors import OpswarmError, Unauthenticated
from opswarm.guard.keys import find_token, known_verifier, token_path
from opswarm.guard.tokens import AUDIENCE_PERSON
from opswarm.guard.untrusted import clean
from opswarm.settings import PORTS, Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, whether it is well, and what was seen or is to be done."""

    what: str
    ok: bool
    detail: str


def examine(settings: Settings) -> Iterator[Finding]:
    """Every check, in the order in which a person would want them mended."""
    version = sys.version_info
    yield Finding("Python", version >= (3, 11), f"{version.major}.{version.minor}.{version.micro}")
    yield _guarded("home folder", lambda: _home(settings))
    yield _guarded("token", lambda: _token(settings))
    for group in (registry.SERVICES, registry.TOOL_SERVERS):
        for name in registry.names(group):
            load = registry.service_factory if group == registry.SERVICES else registry.tool_server
            yield _guarded(f"{name} installed", lambda load=load, name=name: (load(name), "yes")[1])  # type: ignore[misc]
    yield _models(settings)
    found = running.find(settings)
    if found is None:
        yield from _apart(settings)
        return
    yield Finding("swarm", True, f"running at {found.url}, looking at {found.cluster}")
    for row in found.rows:
        if row.service != "metrics":
            yield _service(row.service, row.url)


def _apart(settings: Settings) -> Iterator[Finding]:
    """Services that run one by one: each that the settings name, and who answers at the default ports."""
    named = {n: u.rstrip("/") for n, u in (settings.orchestrator.agents | settings.addresses).items() if u}
    usual = {
        n: settings.address(n)
        for group in (registry.SERVICES, registry.TOOL_SERVERS)
        for n in registry.names(group)
        if n not in named and n in PORTS
    }
    with ThreadPoolExecutor() as pool:
        answering = dict(zip(usual, pool.map(_answers, usual, usual.values()), strict=True))
        there = named | {n: url for n, url in usual.items() if answering[n]}
        if not there:
            yield Finding("swarm", False, "not running here: start it with `opswarm up`")
            return
        yield Finding("swarm", True, "no `opswarm up` runs here; these services are known:")
        yield from pool.map(_service, there, there.values())


def _answers(name: str, url: str) -> bool:
    body = _readiness(url)
    return body is not None and body.get("service") == name


def _guarded(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, look())
    except OpswarmError as error:
        return Finding(what, False, str(error))


def _home(settings: Settings) -> str:
    if not settings.home.exists():
        return f"{settings.home} (made at first start)"
    if not os.access(settings.home, os.W_OK):
        raise OpswarmError(f"{settings.home} can't be written.", hint="Set OPSWARM_HOME.")
    return str(settings.home)


def _token(settings: Settings) -> str:
    token = find_token(settings)
    path = token_path(settings)
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise OpswarmError(f"{path} can be read by others.", hint=f"Run chmod 600 {path}.")
    if os.environ.get("OPSWARM_TOKEN", "").strip():
        return "OPSWARM_TOKEN is set, and used before the file"
    check = known_verifier(settings)
    if check is None:
        return "found; there is no key here to check it with"
    try:
        left = check.verify(token, [AUDIENCE_PERSON]).expires - time.time()
    except Unauthenticated as error:
        raise OpswarmError(f"{path}: {error.message}", hint="`opswarm token --save` makes a good one.") from error
    return f"good for {max(0, round(left / 86_400))} days"


def _models(settings: Settings) -> Finding:
    tiers = {t: " → ".join(getattr(settings.models, t)) for t in ("fast", "standard", "deep")}
    keyed = bool(os.environ.get("ANTHROPIC_API_KEY") or settings.models.anthropic_api_key)
    keyed = keyed or settings.models.anthropic_api_key_file is not None
    local = bool(os.environ.get("OLLAMA_API_BASE") or settings.models.ollama_api_base)
    behind = "Claude" if keyed else "Ollama" if local else "the offline playbook (no key, no Ollama configured)"
    return Finding("models", True, ", ".join(f"{t}={m}" for t, m in tiers.items()) + f"; auto means {behind}")


def _service(name: str, url: str) -> Finding:
    body = _readiness(url)
    if body is None:
        return Finding(name, False, f"does not answer at {url}")
    if body.get("service") != name:
        return Finding(name, False, f"something else answers at {url}: {clean(str(body.get('service', '?')))[:80]}")
    bad = [clean(f"{k}: {v}") for k, v in body.get("checks", {}).items() if v != "ok"]
    return Finding(name, not bad, "; ".join(bad) or f"ready at {url}")


def _readiness(url: str) -> dict[str, Any] | None:
    """What a service says of itself, or None when nothing that speaks JSON answers."""
    try:
        body: Any = httpx.get(f"{url}/readyz", timeout=6, trust_env=False).json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None
    return body if isinstance(body, dict) else None
