"""The emulated GitHub as an ASGI application, at the paths of api.github.com."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator

import httpx
from starlette.applications import Starlette
from starlette.routing import Route

from lab.github import issues, pulls, reading, work
from lab.github.http import Door
from lab.github.state import Hub, User
from lab.github.webhooks import Webhooks


class GitHub:
    """A GitHub with one repository. `app` serves it; `door.log` has what was asked."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.door = Door(hub)
        self.webhooks: Webhooks | None = None
        self.app = Starlette(routes=self._routes(), lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(trust_env=False) as http:
            self.webhooks = Webhooks(self.hub, http, asyncio.get_running_loop())
            sending = asyncio.create_task(self.webhooks.run())
            try:
                yield
            finally:
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await sending

    def _token_for(self, user: User) -> str:
        token = f"ghs_{secrets.token_hex(20)}"
        self.door.installation_tokens[token] = user
        return token

    def _routes(self) -> list[Route]:
        on, repo = self.door.route, f"/repos/{self.hub.full_name}"
        pull, issue = f"{repo}/pulls/{{number:int}}", f"{repo}/issues/{{number:int}}"
        return [
            on("GET", "/user", work.me),
            on("GET", "/app", work.app),
            on("GET", "/app/installations", work.installations),
            on("POST", "/app/installations/77/access_tokens", work.installation_token(self._token_for)),
            on("GET", "/rate_limit", work.limits),
            on("POST", "/graphql", work.review_threads),
            on("GET", "/search/issues", work.search_issues),
            on("GET", "/search/code", work.search_code),
            on("GET", "/search/commits", work.search_commits),
            Route("/lab/logs/{id:int}", work.stored_log(self.hub)),
            on("GET", repo, reading.repository),
            on("GET", f"{repo}/branches", reading.branches),
            on("GET", f"{repo}/branches/{{branch:path}}", reading.branch),
            on("GET", f"{repo}/tags", reading.tags),
            on("GET", f"{repo}/contents", reading.contents),
            on("GET", f"{repo}/contents/{{path:path}}", reading.contents),
            on("GET", f"{repo}/compare/{{span:path}}", reading.compare),
            on("GET", f"{repo}/commits", reading.commits),
            on("GET", f"{repo}/commits/{{ref:path}}/check-runs", work.check_runs),
            on("GET", f"{repo}/commits/{{ref:path}}/status", work.combined_status),
            on("GET", f"{repo}/commits/{{ref:path}}", reading.commit),
            on("GET", f"{repo}/git/ref/{{ref:path}}", reading.ref),
            on("POST", f"{repo}/git/refs", reading.make_ref),
            on("PATCH", f"{repo}/git/refs/{{ref:path}}", reading.move_ref),
            on("DELETE", f"{repo}/git/refs/{{ref:path}}", reading.delete_ref),
            on("GET", f"{repo}/git/trees/{{sha:path}}", reading.tree),
            on("POST", f"{repo}/git/trees", reading.make_tree),
            on("GET", f"{repo}/git/blobs/{{sha}}", reading.blob),
            on("POST", f"{repo}/git/blobs", reading.make_blob),
            on("GET", f"{repo}/git/commits/{{sha}}", reading.git_commit),
            on("POST", f"{repo}/git/commits", reading.make_commit),
            on("GET", f"{repo}/pulls", pulls.pulls),
            on("POST", f"{repo}/pulls", pulls.make_pull),
            on("GET", pull, pulls.pull),
            on("PATCH", pull, pulls.edit_pull),
            on("GET", f"{pull}/files", pulls.files),
            on("GET", f"{pull}/commits", pulls.commits),
            on("GET", f"{pull}/reviews", pulls.reviews),
            on("POST", f"{pull}/reviews", pulls.make_review),
            on("GET", f"{pull}/comments", pulls.line_comments),
            on("PUT", f"{pull}/merge", pulls.merge),
            on("GET", f"{repo}/issues", issues.issues),
            on("POST", f"{repo}/issues", issues.make_issue),
            on("GET", issue, issues.issue),
            on("PATCH", issue, issues.edit_issue),
            on("GET", f"{issue}/comments", issues.comments),
            on("POST", f"{issue}/comments", issues.make_comment),
            on("GET", f"{repo}/issues/comments/{{id:int}}", issues.comment),
            on("PATCH", f"{repo}/issues/comments/{{id:int}}", issues.edit_comment),
            on("GET", f"{repo}/collaborators/{{login}}/permission", issues.permission),
            on("GET", f"{repo}/releases", work.releases),
            on("GET", f"{repo}/releases/latest", work.latest_release),
            on("GET", f"{repo}/releases/tags/{{tag:path}}", work.release_of_tag),
            on("GET", f"{repo}/actions/runs", work.runs),
            on("GET", f"{repo}/actions/runs/{{id:int}}", work.run),
            on("GET", f"{repo}/actions/runs/{{id:int}}/jobs", work.jobs),
            on("GET", f"{repo}/actions/jobs/{{id:int}}/logs", work.job_log),
        ]
