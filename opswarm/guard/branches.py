"""Which branches may be written to. A name is taken only in its one plain spelling, as in `opswarm.guard.paths`."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from opswarm.guard.denials import Limit, denied
from opswarm.guard.spelling import plain_branch, shown

MOST_BRANCH = 200
"""Longest name, in characters."""

_BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)+")
_ODD = re.compile(r"\.\.|\.(?:/|$)|\.lock(?:/|$)", re.IGNORECASE)


def check_branch(name: str, prefixes: Sequence[str], protected: Collection[str]) -> str:
    """`name`, unchanged, when commits may go to the branch of that name.

    `protected` are branches that nobody commits to; one that ends in `/` stands for all below it. Raises
    `PermissionDenied` with the rule.
    """
    meant = plain_branch(name)
    for branch in sorted(protected):
        key = branch.casefold()
        if meant == key or name.casefold() == key or (key.endswith("/") and meant.startswith(key)):
            raise denied(Limit.BRANCH_PROTECTED, f"{shown(name)} stands for the protected branch {branch}.")
    if len(name) > MOST_BRANCH or not _BRANCH.fullmatch(name) or _ODD.search(name):
        raise denied(
            Limit.BRANCH_SPELLING,
            f"The branch {shown(name)} is not spelt plainly.",
            "Give its short name: letters, digits and . _ - / only.",
        )
    if not any(name.startswith(prefix) for prefix in prefixes):
        raise denied(
            Limit.BRANCH_PREFIX,
            f"The branch {shown(name)} is not one that Opswarm may write to.",
            f"Allowed: {', '.join(f'{p}…' for p in prefixes) or 'none'}.",
        )
    return name
