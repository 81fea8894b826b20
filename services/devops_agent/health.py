"""Rules first: a question about health is looked into before any model is asked."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from opswarm.a2a.server import TurnInput
from opswarm.agent.service import FirstLook
from opswarm.agent.toolbox import Toolbox
from opswarm.errors import OpswarmError
from opswarm.models.chat import ToolCall
from opswarm.models.intents import Intent, intent_of, names_in

DIAGNOSE = "diagnose"
FIND = "find"
_MAX_WORDS = 4
_MAX_OBJECTS = 2
_SHORTEST = 3
_ASKED_ABOUT = re.compile(r"\b(?:is|are|was|with|about|diagnose|does|did)\s+(?:the\s+|my\s+)?([a-z0-9][\w.-]*)")


async def first_look(request: TurnInput, tools: Toolbox) -> FirstLook:
    """For a question about health, the `diagnose` calls that answer it; nothing for any other.

    Words of the question are looked up in the cluster: an object's name narrows the diagnosis to it, a namespace's
    name to that. Words that name nothing leave it cluster-wide.
    """
    offered = {s.name for s in tools.schemas}
    if intent_of(request.text) is not Intent.HEALTH or DIAGNOSE not in offered:
        return FirstLook()
    words = _words(request.text)
    found = await _lookup(tools, words) if FIND in offered else {}
    if not any(found.values()) and FIND in offered:
        found |= await _lookup(tools, _carried(request))
    namespaces = [w for w, m in found.items() if any(_is_namespace(x, w) for x in m)]
    objects = [w for w, m in found.items() if w not in namespaces and any(_is_object(x) for x in m)]
    namespace = namespaces[0] if len(namespaces) == 1 else ""
    if objects:
        scopes = [_scope(w, namespace, found[w]) for w in objects[:_MAX_OBJECTS]]
        return FirstLook(tuple(_call(i, s) for i, s in enumerate(scopes)))
    if namespaces:
        return FirstLook(tuple(_call(i, {"namespace": n}) for i, n in enumerate(namespaces[:_MAX_OBJECTS])))
    missed = [w for w in words if w in {m.strip(".-") for m in _ASKED_ABOUT.findall(request.text.lower())}]
    names = ", ".join(f"`{w}`" for w in missed)
    note = (f"Nothing in the cluster is named {names}, so all of it was checked.",) if missed and found else ()
    return FirstLook((_call(0, {}),), note)


def _words(text: str) -> list[str]:
    return [w for w in names_in(text) if len(w) >= _SHORTEST][:_MAX_WORDS]


async def _lookup(tools: Toolbox, words: Sequence[str]) -> dict[str, Sequence[Mapping[str, Any]]]:
    matches = await asyncio.gather(*(_matches(tools, w) for w in words))
    return dict(zip(words, matches, strict=True))


def _carried(request: TurnInput) -> list[str]:
    """What an earlier question was about, when this one only says "it"."""
    said = f" {request.text.lower()} "
    if not any(f" {w}" in said for w in ("it ", "it?", "its ", "that ", "this one")):
        return []
    for message in reversed(request.history):
        if message.role == "user" and (words := _words(message.content)):
            return words
    return []


async def _matches(tools: Toolbox, word: str) -> Sequence[Mapping[str, Any]]:
    try:
        result = await tools.call(FIND, {"keyword": word, "limit": 50})
    except OpswarmError:
        return ()  # The diagnosis that follows meets the same trouble, and says so.
    found = (result.data or {}).get("matches")
    return found if result.ok and isinstance(found, list) else ()


def _is_namespace(match: Mapping[str, Any], word: str) -> bool:
    return match.get("kind") == "Namespace" and match.get("name") == word


def _is_object(match: Mapping[str, Any]) -> bool:
    return match.get("matched") == "name" and match.get("kind") != "Namespace"


def _scope(word: str, namespace: str, matches: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    inside = any(m.get("namespace") == namespace for m in matches)
    return {"name": word, "namespace": namespace} if namespace and inside else {"name": word}


def _call(index: int, arguments: Mapping[str, str]) -> ToolCall:
    return ToolCall(f"look_{index + 1}", DIAGNOSE, json.dumps(arguments, sort_keys=True))
