"""Keeping secrets out of everything that leaves a process: tool results, errors, logs.

A last net under the careful code, not instead of it: known secret values and the well-known shapes of keys are
replaced wherever text goes out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

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
    | (?<=[Bb]earer\ )[A-Za-z0-9_\-.=+/]{16,}
    | (?<=://)[^\s/:@]{1,64}:[^\s/@]{1,128}(?=@)          # user:password in a URL
    """,
    re.VERBOSE | re.DOTALL,
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` with every one of `secrets` (of 6 characters or more) and every key-shaped run masked."""
    for secret in secrets:
        if len(secret) >= 6:
            text = text.replace(secret, MASK)
    return _SHAPES.sub(MASK, text)
