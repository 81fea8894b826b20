"""Attacks on where files may be written. What is to be reached lies outside of `kubernetes/apps/`."""

from __future__ import annotations

import ntpath
import posixpath
import unicodedata
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from opswarm.errors import PermissionDenied
from opswarm.guard.denials import Limit
from opswarm.guard.limits import Limits
from opswarm.guard.paths import Commit, FileChange, FileKind
from opswarm.guard.spelling import plain_path
from tests.opswarm.guard.disguises import Disguise, disguised, disguises

LIMITS = Limits()
ROOT = "kubernetes/apps/"

SEGMENT = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,12}[a-z0-9]", fullmatch=True).filter(
    lambda s: not s.startswith(".git") and ".." not in s
)
GOOD = st.lists(SEGMENT, min_size=1, max_size=5).map(lambda parts: ROOT + "/".join(parts))
OUTSIDE = st.sampled_from(
    [
        "kubernetes/flux-system/gotk-sync.yaml",
        "kubernetes/apps",
        "kubernetes/apps/../flux-system/kustomization.yaml",
        "kubernetes/apps/web/../../../.sops.yaml",
        "kubernetes/appsx/a.yaml",
        "Kubernetes/Apps/a.yaml",
        ".github/workflows/ci.yaml",
        "kubernetes/apps/.git/config",
        "kubernetes/apps/.GIT/hooks/pre-commit",
        "/etc/passwd",
        "../outside.yaml",
        "C:\\Windows\\x",
        "kubernetes\\apps\\..\\x.yaml",
    ]
)
WAYS: tuple[Disguise, ...] = (
    lambda p: p.replace("/", "//"),
    lambda p: p.replace("/", "/./"),
    lambda p: p.replace("/", "\\"),
    lambda p: p.replace("/", "%2f"),
    lambda p: p.replace("/", "%252F"),
    lambda p: p.replace(".", "%2e"),
    lambda p: p.replace(".", "%252e"),
    lambda p: p.replace("/", "\u2215"),
    lambda p: p.replace(".", "\uff0e"),
    lambda p: p.replace("..", "\u2025"),
    lambda p: f"./{p}",
    lambda p: f"/{p}",
    lambda p: f"file://{p}",
    lambda p: f"{ROOT}../../{p}",
    lambda p: f"{ROOT}%2e%2e/%2e%2e/{p}",
    lambda p: f"{ROOT}..%00/../../{p}",
    lambda p: f"{ROOT}.. /.. /{p}",
    lambda p: f"{p}.",
    lambda p: f"{p} ",
    lambda p: f"{p}/",
    lambda p: f"{p}::$DATA",
)


def rule(path: str, limits: Limits = LIMITS) -> str:
    with pytest.raises(PermissionDenied) as refused:
        limits.path(path)
    assert refused.value.message.isascii() and refused.value.message.endswith(".")
    return refused.value.rule


@given(OUTSIDE)
def test_nothing_outside_is_reached_by_its_own_name(path: str) -> None:
    assert rule(path).startswith("limit.path.")


@given(OUTSIDE, disguises(*WAYS))
def test_nothing_outside_is_reached_in_a_disguise(path: str, ways: list[Disguise]) -> None:
    assert rule(disguised(path, ways)).startswith("limit.path.")


@given(GOOD, disguises(*WAYS))
def test_what_is_allowed_is_allowed_in_one_spelling_only(path: str, ways: list[Disguise]) -> None:
    other = disguised(path, ways)
    assume(other != path)
    assert rule(other).startswith("limit.path.")


@given(GOOD)
def test_a_plain_path_below_the_root_passes_byte_for_byte(path: str) -> None:
    assert LIMITS.path(path) == path == plain_path(path)


TRICKY = st.text(st.sampled_from("kubernets/ap.%2eEfFgGiItT\\ ~:-_\u200b\u2215\uff0e\x00"), max_size=60)


@given(st.one_of(st.text(max_size=80), TRICKY, TRICKY.map(lambda t: ROOT + t)))
def test_whatever_passes_means_one_thing_to_everybody(path: str) -> None:
    try:
        passed = LIMITS.path(path)
    except PermissionDenied:
        return
    assert passed == path and passed.startswith(ROOT) and passed != ROOT
    for reading in (
        posixpath.normpath(path), ntpath.normpath(path).replace("\\", "/"), unquote(path), unquote(unquote(path)),
        unicodedata.normalize("NFKC", path), path.strip(), path.rstrip(". "), "".join(path.split()),
    ):  # fmt: skip
        assert reading == path
    assert not any(part.casefold() in (".git", ".gitmodules", "git~1") for part in path.split("/"))
    assert str((Path("/repo") / path).resolve()).startswith("/repo/kubernetes/apps/")


@given(st.one_of(st.text(max_size=200), TRICKY))
def test_working_out_what_a_path_says_settles(path: str) -> None:
    assert plain_path(plain_path(path)) == plain_path(path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("kubernetes/apps/../x", Limit.PATH_SPELLING),
        ("kubernetes/apps/%2e%2e/x", Limit.PATH_SPELLING),
        ("kubernetes/apps/%252e%252e/x", Limit.PATH_SPELLING),
        ("kubernetes/apps//x", Limit.PATH_SPELLING),
        ("kubernetes/apps/x.", Limit.PATH_SPELLING),
        ("kubernetes/apps/...", Limit.PATH_SPELLING),
        ("kubernetes/apps/--upload-pack=x", Limit.PATH_SPELLING),
        ("kubernetes/apps/" + "a" * 300, Limit.PATH_SPELLING),
        ("kubernetes/apps/" + "a/" * 600 + "a", Limit.PATH_SPELLING),
        ("kubernetes/apps/.git/config", Limit.PATH_GIT),
        ("kubernetes/apps/.Git", Limit.PATH_GIT),
        ("kubernetes/apps/.g\u200bit/config", Limit.PATH_GIT),
        ("kubernetes/apps/GIT~1/config", Limit.PATH_GIT),
        ("kubernetes/apps/.git /config", Limit.PATH_GIT),
        ("kubernetes/apps/%2egit/config", Limit.PATH_GIT),
        ("kubernetes/apps/.gitmodules", Limit.PATH_GIT),
        ("KUBERNETES/APPS/x", Limit.PATH_ROOT),
        ("kubernetes/infra/x", Limit.PATH_ROOT),
        ("", Limit.PATH_SPELLING),
    ],
)
def test_the_refusal_names_its_rule(path: str, expected: Limit) -> None:
    assert rule(path) == expected


def test_a_refusal_tells_the_plain_spelling_where_that_is_allowed() -> None:
    with pytest.raises(PermissionDenied, match=r"Write it as kubernetes/apps/web/a\.yaml"):
        LIMITS.path("./kubernetes//apps/web/a.yaml")


def test_a_path_as_long_as_a_book_is_refused_at_once() -> None:
    assert rule("%" + "25" * 2_000_000) == Limit.PATH_SPELLING


def test_roots_are_narrowed_but_never_widened_at_run_time() -> None:
    narrow = LIMITS.narrowed(("kubernetes/apps/media/",))
    assert narrow.path("kubernetes/apps/media/a.yaml")
    assert rule("kubernetes/apps/web/a.yaml", narrow) == Limit.PATH_ROOT
    for wider in ("kubernetes/", "kubernetes/apps/", "infra/", "kubernetes/apps/media/../"):
        with pytest.raises(PermissionDenied):
            narrow.narrowed((wider,))


@pytest.mark.parametrize("root", ["", "/", ".", "./", "kubernetes", "../", "a/../", ".git/", ".github/", "a//", "%2e/"])
def test_what_is_no_plain_folder_can_be_no_root(root: str) -> None:
    with pytest.raises(PermissionDenied):
        Limits(roots=(root,))


def commit(*changes: FileChange, links: dict[str, str] | None = None) -> str:
    """The rule that refuses a commit; "" when it passes unchanged."""
    made = Commit("fix/x", changes, links or {})
    try:
        assert LIMITS.commit(made) is made
    except PermissionDenied as error:
        return error.rule
    return ""


def test_both_sides_of_a_rename_are_checked() -> None:
    good, bad = f"{ROOT}a.yaml", "kubernetes/flux-system/a.yaml"
    assert commit(FileChange(good, renamed_from=f"{ROOT}b.yaml")) == ""
    assert commit(FileChange(good, renamed_from=bad)) == Limit.PATH_ROOT
    assert commit(FileChange(bad, renamed_from=good)) == Limit.PATH_ROOT
    assert commit(FileChange(good, renamed_from=f"{ROOT}../../x")) == Limit.PATH_SPELLING
    assert commit(FileChange(good), FileChange(bad, FileKind.DELETED)) == Limit.PATH_ROOT


def test_a_symlink_may_point_only_to_what_may_be_written() -> None:
    def link(target: str) -> str:
        return commit(FileChange(f"{ROOT}web/link", FileKind.SYMLINK, target))

    assert link("../base/a.yaml") == "" == link("a.yaml")
    assert link("/etc/passwd") == Limit.PATH_SYMLINK == link("")
    assert link("../../../.sops.yaml") == Limit.PATH_ROOT
    assert link("../../flux-system") == Limit.PATH_ROOT
    assert link("../..") == Limit.PATH_SPELLING or link("../..") == Limit.PATH_ROOT
    assert link("../../../../outside").startswith("limit.path.")
    assert link("a/../../base/x") == Limit.PATH_SPELLING
    assert link("%2e%2e/x") == Limit.PATH_SPELLING
    assert link("..\\..\\x") == Limit.PATH_SYMLINK
    assert link("../.git/config") == Limit.PATH_GIT
    assert link("link") == Limit.PATH_SYMLINK
    assert commit(FileChange("kubernetes/link", FileKind.SYMLINK, "apps/a")) == Limit.PATH_ROOT


def test_nothing_is_written_through_a_symlink_that_is_there_or_comes_with_it() -> None:
    there = {f"{ROOT}door": "../flux-system"}
    assert commit(FileChange(f"{ROOT}door/a.yaml"), links=there) == Limit.PATH_SYMLINK
    assert commit(FileChange(f"{ROOT}Door/a.yaml"), links=there) == Limit.PATH_SYMLINK
    assert commit(FileChange(f"{ROOT}door"), links=there) == Limit.PATH_SYMLINK
    assert commit(FileChange(f"{ROOT}x", renamed_from=f"{ROOT}door/a"), links=there) == Limit.PATH_SYMLINK
    assert commit(FileChange(f"{ROOT}other", FileKind.SYMLINK, "door/a"), links=there) == Limit.PATH_SYMLINK
    assert commit(FileChange(f"{ROOT}door", FileKind.DELETED), links=there) == ""
    through = FileChange(f"{ROOT}new/a.yaml")
    made = FileChange(f"{ROOT}new", FileKind.SYMLINK, "base")
    assert commit(through, made) == Limit.PATH_SYMLINK == commit(made, through)
    assert commit(made, through, links=there) == Limit.PATH_SYMLINK
    assert commit(FileChange(f"{ROOT}door/a"), links={f"{ROOT}Door": "x"}) == Limit.PATH_SYMLINK


@given(GOOD, st.lists(st.sampled_from(["..", ".", "a", "flux-system", ".git"]), min_size=1, max_size=6))
def test_a_symlink_that_passes_leads_below_the_root_on_a_real_path(path: str, steps: list[str]) -> None:
    target = "/".join(steps)
    if commit(FileChange(path, FileKind.SYMLINK, target)) == "":
        landed = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        assert landed.startswith(ROOT)


def test_a_submodule_is_refused_and_a_file_has_no_target() -> None:
    assert commit(FileChange(f"{ROOT}sub", FileKind.SUBMODULE)) == Limit.PATH_SUBMODULE
    assert commit(FileChange(f"{ROOT}file", FileKind.FILE, "../x")) == Limit.PATH_SYMLINK


def test_a_commit_to_a_protected_branch_is_refused_whatever_it_changes() -> None:
    with pytest.raises(PermissionDenied) as refused:
        LIMITS.commit(Commit("main", (FileChange(f"{ROOT}a.yaml"),)))
    assert refused.value.rule == Limit.BRANCH_PROTECTED
