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
    (?P<block>                                            # A private key, PEM or PGP; its lines as a diff has them too
        -----BEGIN\ (?:[A-Z0-9]+\ )*PRIVATE\ KEY(?:\ BLOCK)?-----
        (?:(?:\r?\n|\\r|\\n)(?:[ \t>|+]|-(?!-)){0,40}
           (?:(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset):[^\n\\]{0,100}|[A-Za-z0-9+/=]{1,200})?
           (?=[ \t]{0,4}(?:\r?\n|\\[rn]|["']|\Z))         # Such a line has nothing else
          |\ [A-Za-z0-9+/=]{16,200}(?=[\s"']|\Z))*         # Also where its line ends became spaces
        (?:(?:\r?\n|\\r|\\n|\ )?[ \t>|+\-]{0,20}?-----END\ (?:[A-Z0-9]+\ )*PRIVATE\ KEY(?:\ BLOCK)?-----)?
    )
    | sk-(?:ant-|proj-|or-)?[A-Za-z0-9_\-]{16,}           # Anthropic, OpenAI, OpenRouter
    | \b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_\-]{20,})  # GitHub, GitLab
    | \beyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]+ # JWT
    | \b(?:AKIA|ASIA)[0-9A-Z]{16}\b                       # AWS access key id
    | \bAIza[0-9A-Za-z_\-]{35}                            # Google
    | \bxox[abprs]-[A-Za-z0-9\-]{10,}|\bxapp-[A-Za-z0-9\-]{20,}    # Slack
    | (?<=hooks\.slack\.com/)[a-z]{5,12}/[A-Za-z0-9/_\-]{20,}
    | (?<=/api/webhooks/)[0-9]{10,}/[A-Za-z0-9_\-]{30,}   # Discord
    | \b[0-9]{8,10}:[A-Za-z0-9_\-]{35}\b                  # Telegram
    | \btskey-[a-z]{2,20}-[A-Za-z0-9\-]{10,}              # Tailscale
    | \bhv[sb]\.[A-Za-z0-9_\-]{20,}                       # Vault
    | \bglsa_[A-Za-z0-9]{32}_[0-9a-f]{8}\b               # Grafana
    | \bnpm_[A-Za-z0-9]{36}\b
    | \bAGE-SECRET-KEY-1[0-9A-Z]{50,}                     # age (SOPS)
    | (?<=/hook/)[0-9a-f]{64}\b                            # Flux: the address of a webhook receiver
    | (?<=[Bb]earer\ )[A-Za-z0-9_\-.=+/]{16,}
    | (?i:(?<=authorization:\ basic\ )|(?<=authorization":"basic\ )|(?<=authorization":\ "basic\ ))[A-Za-z0-9+/=]{4,}
    | (?<=://)[^\s/:@"'<>]{0,64}:(?![0-9]{1,5}/)[^\s"'<>?\#]{1,128}(?=@)   # user:password in a URL
    """,
    re.VERBOSE,
)

_MOST_OF_A_TOKEN = 2_048
"""Characters: no key or token in one word is longer."""


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
        text = text.replace(secret, MASK + "\n" * secret.count("\n"))
    return _SHAPES.sub(_masked, text)


def hides_much(text: str) -> bool:
    """Whether `redact` would take more out of it than words: lines that nobody would see."""
    kept = any("\n" in secret and secret in text for secret in _kept)
    return kept or any(m["block"] or len(m[0]) > _MOST_OF_A_TOKEN for m in _SHAPES.finditer(text))


def _masked(found: re.Match[str]) -> str:
    """As many lines as there were, so that nothing comes to stand where it did not."""
    return MASK + "\n" * found[0].count("\n")


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
