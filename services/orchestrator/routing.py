"""Which agent a request is for: by name, by rules over the agents' cards, and only then by a model."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from a2a.types import AgentCard
from pydantic import BaseModel, ConfigDict, ValidationError

from opswarm.errors import ModelFailed
from opswarm.guard.untrusted import cap_bytes, clean, envelope
from opswarm.models.chat import ChatModel, ChatRequest, Message, TextPiece

_WORD = re.compile(r"[a-z0-9][a-z0-9-]+")
_MENTION = re.compile(r"^\s*((?:@[A-Za-z][A-Za-z0-9_-]*[\s,:]*(?:and\s+)?)+)")
_SURE_SCORE = 2.0
_SURE_LEAD = 1.5
_TAG, _NAME, _SKILL, _EXAMPLE = 1.0, 2.0, 0.5, 3.0
_COMMON_WORDS = """
the a an is are in on of for to and or my me what which who how do does can you please show all it
this that with
"""
_COMMON = frozenset(_COMMON_WORDS.split())


@dataclass(frozen=True, slots=True)
class Route:
    """The agents that a request goes to, what is left of it for them, and why they."""

    agents: tuple[str, ...]
    text: str
    because: str


class Choice(BaseModel):
    """A model's routing decision."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    agents: list[str]
    reason: str = ""


_CHOICE_SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["agents", "reason"],
    "properties": {
        "agents": {"type": "array", "items": {"type": "string"}},
        "reason": {"type": "string"},
    },
}


def mentioned(text: str) -> tuple[tuple[str, ...], str]:
    """The agents that a request begins with (`@devops …`), and the request without them."""
    found = _MENTION.match(text)
    if not found:
        return (), text
    names = tuple(dict.fromkeys(n.lower() for n in re.findall(r"@([A-Za-z][A-Za-z0-9_-]*)", found.group(1))))
    rest = text[found.end() :].strip()
    return (names, rest) if rest else ((), text)


def scores(text: str, cards: Mapping[str, AgentCard]) -> dict[str, float]:
    """How well each agent's card fits a request. Words that every card has count for nothing when there are several."""
    words = set(_words(text))
    vocabularies = {name: _vocabulary(name, card) for name, card in cards.items()}
    spread = Counter(word for v in vocabularies.values() for word in v)
    result: dict[str, float] = {}
    for name, vocabulary in vocabularies.items():
        score = sum(
            weight / spread[word]
            for word, weight in vocabulary.items()
            if word in words and (len(cards) == 1 or spread[word] < len(cards))
        )
        overlap = max((_overlap(words, set(_words(e))) for s in cards[name].skills for e in s.examples), default=0.0)
        result[name] = round(score + _EXAMPLE * overlap, 3)
    return result


def sure(scored: Mapping[str, float]) -> str:
    """The agent that the scores decide for, or "" when they don't."""
    ranked = sorted(scored.items(), key=lambda s: -s[1])
    if not ranked or ranked[0][1] < _SURE_SCORE:
        return ""
    if len(ranked) > 1 and ranked[0][1] < ranked[1][1] * _SURE_LEAD:
        return ""
    return ranked[0][0]


async def choose(
    text: str, cards: Mapping[str, AgentCard], model: ChatModel, system: str, *, seconds: float, most: int
) -> Choice | None:
    """A model's choice among the agents there are; None when there is no valid one in time."""
    listing = "\n".join(_listed(name, card) for name, card in cards.items())
    prompt = f"{envelope('agents', listing)}\n\n{envelope('request', cap_bytes(text, 4_000))}"
    request = ChatRequest(
        (Message("system", system), Message("user", prompt)), model="fast", schema=_CHOICE_SCHEMA, max_tokens=300
    )
    said: list[str] = []
    try:
        async with asyncio.timeout(seconds), aclosing(model.stream(request)) as pieces:
            async for piece in pieces:
                if isinstance(piece, TextPiece):
                    said.append(piece.text)
        choice = Choice.model_validate_json("".join(said).strip())
    except (TimeoutError, ModelFailed, ValidationError):
        return None
    known = [a for a in dict.fromkeys(choice.agents) if a in cards][:most]
    return Choice(agents=known, reason=cap_bytes(clean(choice.reason), 200)) if known else None


def _words(text: str) -> list[str]:
    found = [w for w in _WORD.findall(text.lower()) if w not in _COMMON]
    return [*found, *(w[:-1] for w in found if w.endswith("s") and len(w) > 3)]


def _vocabulary(name: str, card: AgentCard) -> dict[str, float]:
    vocabulary: dict[str, float] = {}

    def add(words: Sequence[str], weight: float) -> None:
        for word in words:
            vocabulary[word] = max(vocabulary.get(word, 0.0), weight)

    add([name], _NAME)
    for skill in card.skills:
        add([w for t in skill.tags for w in _words(t)], _TAG)
        add(_words(f"{skill.name} {skill.description}"), _SKILL)
    return vocabulary


def _overlap(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other) if one and other else 0.0


def _listed(name: str, card: AgentCard) -> str:
    skills = "; ".join(f"{clean(s.name)}: {cap_bytes(clean(s.description), 200)}" for s in card.skills)
    return f"- {name}: {cap_bytes(clean(card.description), 300)} Skills: {skills}"
