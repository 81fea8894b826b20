"""Rules first: a question about health is looked into before any model is asked."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from opswarm.a2a.server import TurnInput
from opswarm.agent.service import FirstLook
from opswarm.agent.toolbox import Toolbox, ToolResult
from opswarm.errors import OpswarmError
from opswarm.models.chat import ToolCall
from opswarm.models.intents import Intent, intent_of, names_in

DIAGNOSE = "diagnose"
FLUX_DIAGNOSE = "flux_diagnose"
FLUX_LIST = "flux_list"
FIND = "find"
_MAX_WORDS = 4
_MAX_OBJECTS = 2
_SHORTEST = 3
_MOST_PAGES = 4
_ASKED_ABOUT = re.compile(r"\b(?:is|are|was|with|about|diagnose|does|did)\s+(?:the\s+|my\s+)?([a-z0-9][\w.-]*)")


@dataclass(frozen=True, slots=True)
class _Named:
    """What a word of the question names: rows of `find`, and whether Flux has an object of that name."""

    matches: Sequence[Mapping[str, Any]] = ()
    of_flux: bool = False

    def is_namespace(self, word: str) -> bool:
        return any(m.get("kind") == "Namespace" and m.get("name") == word for m in self.matches)

    @property
    def is_object(self) -> bool:
        return any(m.get("matched") == "name" and m.get("kind") != "Namespace" for m in self.matches)

    def is_in(self, namespace: str) -> bool:
        return any(m.get("namespace") == namespace for m in self.matches)


async def first_look(request: TurnInput, tools: Toolbox) -> FirstLook:
    """For a question about health, the calls of `diagnose` and `flux_diagnose` that answer it; nothing for any other.

    Words of the question are looked up in the cluster: an object's name narrows the diagnosis to it, a namespace's
    name to that. Words that name nothing leave it cluster-wide.
    """
    offered = {s.name for s in tools.schemas}
    if intent_of(request.text) is not Intent.HEALTH or not offered & {DIAGNOSE, FLUX_DIAGNOSE}:
        return FirstLook()
    words = _words(request.text)
    found = await _lookup(tools, words)
    if not any(n.matches or n.of_flux for n in found.values()):
        found |= await _lookup(tools, _carried(request))
    calls = [(DIAGNOSE, s) for s in _scopes(found)] + [(FLUX_DIAGNOSE, s) for s in _flux_scopes(found)]
    narrowed = any(s for _, s in calls)
    about = {m.strip(".-") for m in _ASKED_ABOUT.findall(request.text.lower())}
    names = ", ".join(f"`{w}`" for w in words if w in about)
    note = (f"Nothing in the cluster is named {names}, so all of it was checked.",)
    return FirstLook(
        tuple(_call(i, *call) for i, call in enumerate((c for c in calls if c[0] in offered), 1)),
        note if names and not narrowed and FIND in offered else (),
    )


def _scopes(found: Mapping[str, _Named]) -> list[dict[str, str]]:
    """What `diagnose` is to look at: the objects that are named, else the namespaces. What only Flux knows is left to
    Flux, and for nothing known it is the whole cluster."""
    namespaces = [w for w, n in found.items() if n.is_namespace(w)]
    objects = [w for w, n in found.items() if w not in namespaces and n.is_object]
    if objects:
        where = namespaces[0] if len(namespaces) == 1 else ""
        return [
            {"name": w, "namespace": where} if where and found[w].is_in(where) else {"name": w}
            for w in objects[:_MAX_OBJECTS]
        ]
    if namespaces:
        return [{"namespace": n} for n in namespaces[:_MAX_OBJECTS]]
    return [] if any(n.of_flux for n in found.values()) else [{}]


def _flux_scopes(found: Mapping[str, _Named]) -> list[dict[str, str]]:
    """What `flux_diagnose` is to look at: Flux's own objects of a name in the question, and without an object's name
    the namespaces in it; a Kustomization of a namespace's name may be elsewhere."""
    namespaces = [w for w, n in found.items() if n.is_namespace(w)]
    named = [{"name": w} for w, n in found.items() if n.of_flux]
    if any(n.is_object for w, n in found.items() if w not in namespaces):
        return named[:_MAX_OBJECTS]
    scopes = (named + [{"namespace": n} for n in namespaces])[:_MAX_OBJECTS]
    return scopes or [{}]


def _words(text: str) -> list[str]:
    return [w for w in names_in(text) if len(w) >= _SHORTEST][:_MAX_WORDS]


async def _lookup(tools: Toolbox, words: Sequence[str]) -> dict[str, _Named]:
    if not words:
        return {}
    offered = {s.name for s in tools.schemas}
    finding = (_asked(tools, offered, FIND, {"keyword": word, "limit": 50}) for word in words)
    of_flux, found = await asyncio.gather(_names_of_flux(tools, offered), asyncio.gather(*finding))
    named = {}
    for word, rows in zip(words, found, strict=True):
        matches = (rows.data or {}).get("matches") if rows is not None else None
        named[word] = _Named(matches if isinstance(matches, list) else (), word in of_flux)
    return named


async def _names_of_flux(tools: Toolbox, offered: Set[str]) -> Set[str]:
    """The names of Flux's objects, as far as a few pages have them."""
    found: set[str] = set()
    cursor = ""
    for _ in range(_MOST_PAGES if FLUX_DIAGNOSE in offered else 0):
        page = await _asked(tools, offered, FLUX_LIST, {"limit": 500, "cursor": cursor})
        data = (page.data or {}) if page is not None else {}
        items = data.get("items")
        found |= {str(i.get("name")) for i in (items if isinstance(items, list) else ()) if isinstance(i, dict)}
        cursor = str(data.get("cursor") or "")
        if not cursor:
            break
    return found


async def _asked(tools: Toolbox, offered: Set[str], name: str, arguments: dict[str, Any]) -> ToolResult | None:
    """What a tool says; None where it can't say."""
    if name not in offered:
        return None
    try:
        result = await tools.call(name, arguments)
    except OpswarmError:
        return None  # The diagnosis that follows meets the same trouble, and says so.
    return result if result.ok else None


def _carried(request: TurnInput) -> list[str]:
    """What an earlier question was about, when this one only says "it"."""
    said = f" {request.text.lower()} "
    if not any(f" {w}" in said for w in ("it ", "it?", "its ", "that ", "this one")):
        return []
    for message in reversed(request.history):
        if message.role == "user" and (words := _words(message.content)):
            return words
    return []


def _call(index: int, tool: str, arguments: Mapping[str, str]) -> ToolCall:
    return ToolCall(f"look_{index}", tool, json.dumps(arguments, sort_keys=True))
