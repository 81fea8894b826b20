"""The lab's GitHub: the repository that the cluster follows, with pull requests as Renovate opens them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from lab.github.git import Repository
from lab.github.state import Hub, Pull, User

REPOSITORY = "example/home-ops"
OWNER = User("maria", "admin")
BOT = User("opswarm-bot", "write")
RENOVATE = User("renovate[bot]", "write", "Bot")
STRANGER = User("passer-by", "none")
_DASHBOARD = """\
This issue lists Renovate updates and detected dependencies.

## Open

 - [ ] chore(container): update image jellyfin
 - [ ] feat(container): update image sonarr
 - [ ] feat(container)!: update image homepage
"""


@dataclass(frozen=True, slots=True)
class Bump:
    """An update that Renovate proposes: of the file of an app, from one tag to another. `checks` are each check's
    conclusion by name, None for one that is still running."""

    app: str
    file: str
    image: str
    old: str
    new: str
    kind: str
    label: str
    checks: tuple[tuple[str, str | None], ...]
    notes: str

    @property
    def title(self) -> str:
        mark = {"patch": "fix", "minor": "feat", "major": "feat"}[self.kind]
        bang = "!" if self.kind == "major" else ""
        return f"{mark}(container){bang}: update image {self.image.rpartition('/')[2]} ({self.old} → {self.new})"

    @property
    def body(self) -> str:
        return (
            "This PR contains the following updates:\n\n| Package | Update | Change |\n|---|---|---|\n"
            f"| {self.image} | {self.kind} | `{self.old}` -> `{self.new}` |\n\n---\n\n"
            f"### Release Notes\n\n{self.notes}\n"
        )


_PASSED = (("lint", "success"), ("flux-diff", "success"))
_BUMPS = (
    Bump(
        "media/jellyfin", "helmrelease.yaml", "ghcr.io/jellyfin/jellyfin", "10.11.2", "10.11.3", "patch", "type/patch",
        _PASSED, "#### Bug fixes\n\n- Fixed a crash when a library is scanned while it is moved.",
    ),
    Bump(
        "media/sonarr", "helmrelease.yaml", "ghcr.io/home-operations/sonarr", "4.0.15.2941", "4.1.0.3001", "minor",
        "type/minor", (("lint", "success"), ("flux-diff", None)), "#### Features\n\n- Custom formats can be imported.",
    ),
    Bump(
        "default/homepage", "deployment.yaml", "ghcr.io/gethomepage/homepage", "v1.5.0", "v2.0.0", "major",
        "type/major", (("lint", "success"), ("flux-diff", "failure")),
        "#### Breaking changes\n\n- `services.yaml` has a new format; see the migration guide.",
    ),
)  # fmt: skip


def grow_hub(git: Repository, token: str, now: Callable[[], datetime]) -> Hub:
    """A GitHub with the repository, which must have its files. `token` is the bot's; `main` is protected."""
    hub = Hub(
        REPOSITORY, git, {token: BOT}, now=now, protected=("main",), required=("lint",),
        description="A home cluster, kept by Flux",
    )  # fmt: skip
    for user in (OWNER, RENOVATE, STRANGER):
        hub.know(user)
    hub.open_issue(RENOVATE, "Dependency Dashboard", _DASHBOARD)
    for bump in _BUMPS:
        _propose(hub, bump, now)
    hub.open_issue(STRANGER, "Question about the NFS share", "Which options do you mount it with?")
    return hub


def _propose(hub: Hub, bump: Bump, now: Callable[[], datetime]) -> Pull:
    path = f"kubernetes/apps/{bump.app}/app/{bump.file}"
    sha = hub.git.resolve("main")
    assert sha is not None
    text = hub.git.files(sha, f"kubernetes/apps/{bump.app}")[path]
    if bump.old not in text:
        raise KeyError(f"{path} has no {bump.old}")
    branch = f"renovate/{bump.image.rpartition('/')[2]}-{bump.new}"
    changed = {path: text.replace(bump.old, bump.new)}
    hub.git.commit_files(branch, changed, bump.title, RENOVATE.person, start="main", at=now())
    pull = hub.open_pull(RENOVATE, bump.title, branch, body=bump.body, labels=[bump.label, "renovate/container"])
    for name, conclusion in bump.checks:
        if name == "flux-diff":
            log = "Error: deployment homepage: services.yaml: unknown field\n" if conclusion == "failure" else "ok\n"
            hub.run(branch, "Flux Diff", conclusion, job=name, step="diff", log=log)
        else:
            hub.check(branch, name, conclusion)
    return pull
