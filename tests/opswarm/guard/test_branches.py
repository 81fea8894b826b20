"""Attacks on which branches may be written to."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from opswarm.errors import InvalidInput, PermissionDenied
from opswarm.guard.denials import Limit
from opswarm.guard.limits import Limits
from opswarm.guard.spelling import plain_branch
from tests.opswarm.guard.disguises import Disguise, disguised, disguises

LIMITS = Limits(branches=frozenset({"Production", "fix/keep", "release/"}))
PROTECTED = st.sampled_from(["main", "master", "production", "fix/keep", "release/1.2"])
GOOD = st.from_regex(r"(fix|feat|agent)/[a-z0-9][a-z0-9_-]{0,30}", fullmatch=True).filter(lambda b: b != "fix/keep")
WAYS: tuple[Disguise, ...] = (
    lambda b: f"refs/heads/{b}",
    lambda b: f"refs/remotes/origin/{b}",
    lambda b: f"heads/{b}",
    lambda b: f"origin/{b}",
    lambda b: f"HEAD:{b}",
    lambda b: f"fix/x:{b}",
    lambda b: f"fix/x:refs/heads/{b}",
    lambda b: f"+{b}",
    lambda b: f"{b}:",
    lambda b: f":{b}",
    lambda b: f"{b}@{{upstream}}",
    lambda b: f"{b}@{{1}}",
    lambda b: f"{b}^{{commit}}",
    lambda b: f"{b}~1",
    lambda b: f"{b}/",
    lambda b: f"/{b}",
    lambda b: f"fix/../{b}",
    lambda b: f"fix/..//../{b}",
    lambda b: f"{b}.lock",
    lambda b: f"--force {b}",
    lambda b: f"fix/x {b}",
    lambda b: f"fix/x\n{b}",
    str.upper,
    str.title,
)


def rule(name: str, limits: Limits = LIMITS) -> str:
    with pytest.raises(PermissionDenied) as refused:
        limits.branch(name)
    assert refused.value.message.isascii()
    return refused.value.rule


@given(PROTECTED)
def test_a_protected_branch_is_refused_by_its_name(name: str) -> None:
    assert rule(name) == rule(name.upper()) == Limit.BRANCH_PROTECTED


@given(PROTECTED, disguises(*WAYS))
def test_a_protected_branch_is_refused_in_a_disguise(name: str, ways: list[Disguise]) -> None:
    assert rule(disguised(name, ways)).startswith("limit.branch.")


@given(GOOD, disguises(*WAYS))
def test_what_passes_in_a_disguise_is_a_branch_of_its_own(name: str, ways: list[Disguise]) -> None:
    other = disguised(name, ways)
    assume(other != name)
    try:
        assert LIMITS.branch(other) == other
    except PermissionDenied:
        return
    assert plain_branch(other) == other.casefold() and other.startswith(("fix/", "feat/", "agent/"))


@given(GOOD)
def test_a_branch_of_ours_passes_byte_for_byte(name: str) -> None:
    assert LIMITS.branch(name) == name


TEXT = st.text(st.sampled_from("fixeatgn/main.:+@{}~^-\\ HEADrs\u200b\uff0f%2"), max_size=40)


@given(st.one_of(st.text(max_size=60), TEXT, TEXT.map("fix/".__add__)))
def test_whatever_passes_has_an_allowed_prefix_and_is_no_refspec(name: str) -> None:
    try:
        passed = LIMITS.branch(name)
    except PermissionDenied:
        return
    assert passed == name and passed.startswith(("fix/", "feat/", "agent/"))
    assert not set(passed) & set(":+@{}~^?*[\\ %") and ".." not in passed


@given(st.one_of(st.text(max_size=100), TEXT))
def test_working_out_what_a_branch_says_settles(name: str) -> None:
    assert plain_branch(plain_branch(name)) == plain_branch(name)


@settings(max_examples=40)
@given(st.one_of(GOOD, TEXT.map("agent/".__add__)))
def test_what_passes_is_a_branch_to_git_under_the_same_name(name: str) -> None:
    try:
        LIMITS.branch(name)
    except PermissionDenied:
        return
    git = subprocess.run(["git", "check-ref-format", "--branch", name], capture_output=True, text=True)
    assert (git.returncode, git.stdout) == (0, f"{name}\n")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("refs/heads/main", Limit.BRANCH_PROTECTED),
        ("HEAD:main", Limit.BRANCH_PROTECTED),
        ("fix/x:main", Limit.BRANCH_PROTECTED),
        ("+main", Limit.BRANCH_PROTECTED),
        ("origin/main", Limit.BRANCH_PROTECTED),
        ("main:", Limit.BRANCH_PROTECTED),
        ("main@{0}", Limit.BRANCH_PROTECTED),
        (" Main\n", Limit.BRANCH_PROTECTED),
        ("\uff4d\uff41\uff49\uff4e", Limit.BRANCH_PROTECTED),
        ("ma\u200bin", Limit.BRANCH_PROTECTED),
        ("%6dain", Limit.BRANCH_PROTECTED),
        ("fix/../main", Limit.BRANCH_PROTECTED),
        ("FIX/Keep", Limit.BRANCH_PROTECTED),
        ("fix/..", Limit.BRANCH_SPELLING),
        ("fix/", Limit.BRANCH_SPELLING),
        ("fix", Limit.BRANCH_SPELLING),
        ("HEAD", Limit.BRANCH_SPELLING),
        ("@", Limit.BRANCH_SPELLING),
        ("", Limit.BRANCH_SPELLING),
        ("fix/a.lock", Limit.BRANCH_SPELLING),
        ("fix/a.lock/b", Limit.BRANCH_SPELLING),
        ("fix/.hidden", Limit.BRANCH_SPELLING),
        ("fix/-x", Limit.BRANCH_SPELLING),
        ("fix/" + "a" * 300, Limit.BRANCH_SPELLING),
        ("m\u0430in", Limit.BRANCH_SPELLING),
        ("Fix/x", Limit.BRANCH_PREFIX),
        ("feature/x", Limit.BRANCH_PREFIX),
        ("refs/heads/fix/x", Limit.BRANCH_PREFIX),
    ],
)
def test_the_refusal_names_its_rule(name: str, expected: Limit) -> None:
    assert rule(name) == expected


def test_prefixes_may_be_taken_away_and_none_added() -> None:
    assert rule("feat/x", Limits(prefixes=("fix/",))) == Limit.BRANCH_PREFIX
    assert rule("fix/x", Limits(prefixes=())) == Limit.BRANCH_PREFIX
    for prefix in ("", "main", "f", "refs/heads/"):
        with pytest.raises(InvalidInput):
            Limits(prefixes=(prefix,))


def test_a_branch_as_long_as_a_book_is_refused_at_once() -> None:
    assert rule("fix/" + "%25" * 1_000_000) == Limit.BRANCH_SPELLING
