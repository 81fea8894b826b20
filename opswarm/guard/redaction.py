"""Keeping secrets out of everything that leaves a process: tool results, errors, logs.

A last net under the careful code, not instead of it: known secret values and the well-known shapes of keys are
replaced wherever text goes out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

MASK = "[redacted]"

_SHAPES = re.compile(
    r"""
    sk-(?:ant-|proj-|or-)?[A-Za-z0-9_\-]{16,}             # Anthropic, OpenAI, OpenRouter
    | \b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})   # GitHub
    | \beyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]+ # JWT
    | \bAKIA[0-9A-Z]{16}\b                                # AWS access key id
    | \bxox[abprs]-[A-Za-z0-9\-]{10,}                     # Slack
    | \bAGE-SECRET-KEY-1[0-9A-Z]{50,}                     # age (SOPS)
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    | (?<=/hook/)[0-9a-f]{64}\b                            # Flux: the address of a webhook receiver
    | (?<=[Bb]earer\ )[A-Za-z0-9_\-.=+/]{16,}
    | (?<=://)[^\s/:@]{1,64}:[^\s/@]{1,128}(?=@)          # user:password in a URL
    """,
    re.VERBOSE | re.DOTALL,
)


_MIN_KEPT = 8
"""A shorter value is no real key but a stand-in such as `none` or `ollama`, a word that may be said."""

_kept: set[str] = set()


def keep_secret(value: str | None) -> None:
    """From now on `value` is masked in every text that this process redacts. None and short values are ignored."""
    if value is not None and len(value) >= _MIN_KEPT:
        _kept.add(value)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` with every kept secret, every one of `secrets` (of 6 characters or more) and every key-shaped run
    masked."""
    given = (s for s in secrets if len(s) >= 6)
    for secret in sorted({*given, *_kept}, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return _SHAPES.sub(MASK, text)


def redact_value(value: Any) -> Any:
    """The same JSON value with `redact` done to every string in it; half characters (lone surrogates) are replaced."""
    match value:
        case str():
            return redact(value if value.isascii() else value.encode("utf-8", errors="replace").decode())
        case dict():
            return {redact_value(key): redact_value(inner) for key, inner in value.items()}
        case list() | tuple():
            return [redact_value(inner) for inner in value]
    return value
