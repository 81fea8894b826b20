"""What GitHub knows beside the Git repository: people, pull requests, issues, checks, runs and releases."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from lab.github.git import Person, Repository

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class User:
    """Who acts. `permission` is on the repository, `kind` GitHub's word."""

    login: str
    permission: Literal["admin", "write", "read", "none"] = "write"
    kind: Literal["User", "Bot"] = "User"

    @property
    def id(self) -> int:
        return sum(ord(c) * (i + 1) for i, c in enumerate(self.login)) + 1000

    @property
    def person(self) -> Person:
        return Person(self.login, f"{self.id}+{self.login}@users.noreply.github.com")

    @property
    def pushes(self) -> bool:
        return self.permission in ("admin", "write")

    @property
    def association(self) -> str:
        """How GitHub calls somebody's standing in the repository."""
        return {"admin": "OWNER", "write": "COLLABORATOR", "read": "CONTRIBUTOR"}.get(self.permission, "NONE")


@dataclass(slots=True)
class Comment:
    id: int
    user: User
    body: str
    created: str
    updated: str


@dataclass(slots=True)
class LineComment(Comment):
    """A comment on a line of a diff. `thread` is the id of the first of its thread."""

    path: str = ""
    line: int | None = None
    side: str = "RIGHT"
    commit: str = ""
    review: int = 0
    thread: int = 0


@dataclass(slots=True)
class Review:
    id: int
    user: User
    body: str
    state: str
    commit: str
    submitted: str


@dataclass(slots=True)
class Issue:
    """An issue, and what a pull request has of one."""

    number: int
    title: str
    user: User
    body: str
    created: str
    updated: str
    labels: list[str] = field(default_factory=list)
    state: str = "open"
    closed: str | None = None
    closed_by: User | None = None
    reason: str | None = None
    comments: list[Comment] = field(default_factory=list)


@dataclass(slots=True)
class Pull(Issue):
    """`head` and `base` are branches. Once merged or closed, `head_sha` stays what it was."""

    head: str = ""
    base: str = "main"
    draft: bool = False
    head_sha: str = ""
    base_sha: str = ""
    merged: bool = False
    merged_by: User | None = None
    merge_sha: str | None = None
    reviews: list[Review] = field(default_factory=list)
    line_comments: list[LineComment] = field(default_factory=list)
    resolved: set[int] = field(default_factory=set)


@dataclass(slots=True)
class CheckRun:
    """`conclusion` is None while it is not completed."""

    id: int
    name: str
    sha: str
    status: str
    conclusion: str | None
    title: str = ""
    summary: str = ""
    run: int | None = None


@dataclass(slots=True)
class Status:
    sha: str
    context: str
    state: str
    description: str
    id: int


@dataclass(slots=True)
class Run:
    """A workflow run with one job, whose log is `log`."""

    id: int
    name: str
    sha: str
    branch: str
    event: str
    status: str
    conclusion: str | None
    job: str
    step: str
    log: str


@dataclass(slots=True)
class Release:
    id: int
    tag: str
    name: str
    body: str
    published: str
    prerelease: bool = False
    draft: bool = False


@dataclass(slots=True)
class Hook:
    """Where events are delivered, signed with `secret`. With no `events` every one is."""

    url: str
    secret: str
    events: tuple[str, ...] = ()


class Hub:
    """One repository `owner/name` on a GitHub of its own.

    `tokens` say who a bearer token is. `protected` are branches that take no push and no merge before every check that
    `required` names has passed. What happens is handed to `tell` as (event, payload).
    """

    def __init__(
        self,
        full_name: str,
        git: Repository,
        tokens: Mapping[str, User],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        protected: Sequence[str] = (),
        required: Sequence[str] = (),
        description: str = "",
    ) -> None:
        self.owner, _, self.name = full_name.partition("/")
        self.full_name, self.description = full_name, description
        self.git, self.tokens = git, dict(tokens)
        self.protected, self.required = tuple(protected), tuple(required)
        self.issues: dict[int, Issue] = {}
        self.checks: list[CheckRun] = []
        self.statuses: list[Status] = []
        self.runs: list[Run] = []
        self.releases: list[Release] = []
        self.hooks: list[Hook] = []
        self.users: dict[str, User] = {user.login: user for user in self.tokens.values()}
        self.tell: Callable[[str, Json], None] = lambda event, payload: None
        self.apps: dict[str, str] = {}  # App id to the PEM of its public key.
        self.most_entries = 100_000  # Of a tree that is listed whole; GitHub cuts it off there.
        self._ids = itertools.count(1)
        self._numbers = itertools.count(1)
        self._now = now

    def new_id(self) -> int:
        return 1_000_000 + next(self._ids)

    def stamp(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def know(self, user: User) -> User:
        return self.users.setdefault(user.login, user)

    def comment(self, issue: Issue, user: User, body: str) -> Comment:
        at = self.stamp()
        made = Comment(self.new_id(), self.know(user), body, at, at)
        issue.comments.append(made)
        issue.updated = at
        return made

    def open_issue(self, user: User, title: str, body: str = "", labels: Sequence[str] = ()) -> Issue:
        at = self.stamp()
        made = Issue(next(self._numbers), title, self.know(user), body, at, at, list(labels))
        self.issues[made.number] = made
        return made

    def open_pull(
        self, user: User, title: str, head: str, *, base: str = "main", body: str = "", draft: bool = False,
        labels: Sequence[str] = (),
    ) -> Pull:  # fmt: skip
        """Raises `KeyError` for a branch that is not there."""
        at, branches = self.stamp(), self.git.branches()
        made = Pull(
            next(self._numbers), title, self.know(user), body, at, at, list(labels),
            head=head, base=base, draft=draft, head_sha=branches[head], base_sha=branches[base],
        )  # fmt: skip
        self.issues[made.number] = made
        return made

    def pulls(self) -> list[Pull]:
        return [i for i in self.issues.values() if isinstance(i, Pull)]

    def refresh(self, pull: Pull) -> Pull:
        """Follows the branches of an open pull request."""
        if pull.state == "open":
            branches = self.git.branches()
            pull.head_sha = branches.get(pull.head, pull.head_sha)
            pull.base_sha = branches.get(pull.base, pull.base_sha)
        return pull

    def check(self, ref: str, name: str, conclusion: str | None, *, title: str = "", summary: str = "") -> CheckRun:
        """Scripts a check run on a commit; a `conclusion` of None is one that runs still."""
        sha = self.git.resolve(ref) or ref
        status = "in_progress" if conclusion is None else "completed"
        made = CheckRun(self.new_id(), name, sha, status, conclusion, title, summary)
        self.checks.append(made)
        return made

    def status(self, ref: str, context: str, state: str, description: str = "") -> Status:
        made = Status(self.git.resolve(ref) or ref, context, state, description, self.new_id())
        self.statuses.append(made)
        return made

    def run(
        self, ref: str, name: str, conclusion: str | None, *, job: str = "build", step: str = "Run", log: str = ""
    ) -> Run:
        """Scripts a workflow run on a branch, and the check run that it has."""
        sha = self.git.resolve(ref) or ref
        made = Run(
            self.new_id(), name, sha, ref, "pull_request", "in_progress" if conclusion is None else "completed",
            conclusion, job, step, log,
        )  # fmt: skip
        self.runs.append(made)
        self.check(ref, job, conclusion).run = made.id
        return made

    def latest_checks(self, sha: str) -> list[CheckRun]:
        return list({c.name: c for c in self.checks if c.sha == sha}.values())

    def latest_statuses(self, sha: str) -> list[Status]:
        return list({s.context: s for s in self.statuses if s.sha == sha}.values())
