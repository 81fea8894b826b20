"""What a program that reads along at GitHub could take for an order to it: bots act with rights of their own.

A text of ours that has one is a person's to send. Which words are orders is up to every bot, so that what is looked for
is their common form (a line that begins with a slash, a mention, a ticked box, what is hidden), and the words of those
that take plain ones.
"""

from __future__ import annotations

import re

from mcp_servers.github.strangers import line

_LEAD = r"^[ \t>*_~`#+\-]*"
_PATTERNS = (
    re.compile(_LEAD + r"/[ \t]{0,9}[a-z]", re.IGNORECASE | re.MULTILINE),  # Prow and most others: /merge, /approve.
    re.compile(r"(?<![\w.+-])@\s*[a-z0-9]", re.IGNORECASE),  # Dependabot, Mergify, Copilot: @name do this.
    re.compile(_LEAD + r"\d{0,9}[.)]?[ \t]{0,9}\[\s{0,9}x\s{0,9}\]", re.IGNORECASE | re.MULTILINE),  # A ticked box.
    re.compile(r"<!--"),
    re.compile(
        _LEAD + r"(?:bors\b|atlantis\b|digger\b|terrateam\b|jenkins\b|terraform (?:apply|destroy)|rebase!|recheck\b|"
        r"retest\b|(?:please )?(?:re)?test this|ok to test|add to whitelist|pre-commit\.ci|run tests|r\+|lgtm\b|"
        r"shipit\b|i have read the cla\b|i hereby sign)",
        re.IGNORECASE | re.MULTILINE,
    ),
)
_SKIPS = re.compile(
    r"\[\s*(?:skip[ -]ci|ci[ -]skip|no[ -]ci|skip[ -]actions|actions[ -]skip|skip[ -]netlify|skip[ -]checks)\s*\]"
    r"|\*\*\*\s*NO_CI\s*\*\*\*|^[ \t]*(?:skip|request)-checks\s*:",
    re.IGNORECASE | re.MULTILINE,
)
"""GitHub's words, and its trailer, in a commit's message with which no check runs."""


def order_in(*texts: str) -> str:
    """The line of these texts that a bot could take for an order; "" where there is none."""
    return next((_at(text, found) for text in texts for p in _PATTERNS if (found := p.search(text))), "")


def skips_checks(message: str) -> str:
    """The line of a commit's message that keeps the checks from running; "" where there is none."""
    found = _SKIPS.search(message)
    return _at(message, found) if found else ""


def caution(order: str) -> list[str]:
    """How a person is told of it, before the text."""
    return [f"CAUTION: a bot may take this for an order: {order}"] if order else []


def _at(text: str, found: re.Match[str]) -> str:
    end = found.end()
    start = text.rfind("\n", 0, end - 1) + 1
    stop = text.find("\n", end)
    told = text[start : stop if stop >= 0 else len(text)].replace("<!--", "<! --")
    return line(told, 120)
