"""The door of the emulated API: who asks, ETags, pages, rate limits, and GitHub's errors."""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import jwt
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lab.github.state import Hub, Json, User

_DOCS = "https://docs.github.com/rest"
_MOST_PAGE = 100


class Failed(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str, errors: Sequence[Any] = (), headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.errors, self.headers = status, message, list(errors), headers or {}

    def response(self) -> JSONResponse:
        body: Json = {"message": self.message, "documentation_url": _DOCS, "status": str(self.status)}
        if self.errors:
            body["errors"] = self.errors
        return JSONResponse(body, self.status, headers=self.headers)


def not_found() -> Failed:
    return Failed(404, "Not Found")


def invalid(message: str, *errors: Any) -> Failed:
    return Failed(422, message, errors)


@dataclass(frozen=True, slots=True)
class Page:
    """A list that is given page by page. `key` is set where the answer is an object with the list and a count."""

    items: Sequence[Any]
    key: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """An answer other than 200 with JSON."""

    body: Any = None
    status: int = 201
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, read."""

    hub: Hub
    user: User
    path: dict[str, str]
    query: dict[str, str]
    body: Json
    root: str

    @property
    def number(self) -> int:
        return int(self.path["number"])

    def url(self, path: str) -> str:
        return f"{self.root}{path}"

    def text(self, name: str, default: str = "") -> str:
        value = self.body.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise invalid("Invalid request.", f"For '{name}', {value!r} is not a string.")
        return value

    def required(self, name: str) -> str:
        if not (value := self.text(name)):
            raise invalid(f'Invalid request.\n\n"{name}" wasn\'t supplied.')
        return value

    def must_push(self) -> None:
        if not self.user.pushes:
            raise Failed(403, "Resource not accessible by personal access token")


Handler = Callable[[Call], Any]


@dataclass(slots=True)
class Quota:
    """Requests an hour. A request that is answered with 304 costs nothing."""

    limit: int = 5000
    used: int = 0
    reset: float = 0.0

    def headers(self, resource: str = "core") -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(max(0, self.limit - self.used)),
            "X-RateLimit-Used": str(self.used),
            "X-RateLimit-Reset": str(math.ceil(self.reset)),
            "X-RateLimit-Resource": resource,
        }


class Door:
    """Calls one handler at a time. `log` has every request as (method, path, status)."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.quotas = {"core": Quota(), "search": Quota(30), "graphql": Quota()}
        self.log: list[tuple[str, str, int]] = []
        self.failures: list[Response] = []
        """Answers that are given instead of the next ones."""
        self.installation_tokens: dict[str, User] = {}
        self._lock = threading.Lock()

    def route(self, method: str, path: str, handler: Handler) -> Route:
        async def endpoint(request: Request) -> Response:
            answer = await self._answer(request, handler)
            self.log.append((request.method, request.url.path, answer.status_code))
            return answer

        return Route(path, endpoint, methods=[method])

    async def _answer(self, request: Request, handler: Handler) -> Response:
        if self.failures:
            return self.failures.pop(0)
        try:
            user = self._user(request)
            raw = await request.body()
            try:
                body = json.loads(raw) if raw else {}
            except ValueError:
                raise Failed(400, "Problems parsing JSON") from None
            call = Call(
                self.hub, user, dict(request.path_params), dict(request.query_params),
                body if isinstance(body, dict) else {}, str(request.base_url).rstrip("/"),
            )  # fmt: skip
            resource = self._resource(request.url.path)
            self._spend(resource)
            given = await run_in_threadpool(self._one_at_a_time, handler, call)
            response = self._shown(request, call, given)
            if response.status_code == 304:
                self.quotas[resource].used -= 1
            response.headers.update(self.quotas[resource].headers(resource))
        except Failed as error:
            response = error.response()
        return response

    def _one_at_a_time(self, handler: Handler, call: Call) -> Any:
        with self._lock:
            return handler(call)

    def _resource(self, path: str) -> str:
        if "/search/" in path:
            return "search"
        return "graphql" if path.endswith("/graphql") else "core"

    def _spend(self, resource: str) -> None:
        quota, now = self.quotas[resource], time.time()
        if quota.reset <= now:
            quota.used, quota.reset = 0, now + 3600
        if quota.used >= quota.limit:
            raise Failed(403, "API rate limit exceeded for user.", headers=quota.headers(resource))
        quota.used += 1

    def _user(self, request: Request) -> User:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if not token:
            raise Failed(401, "Requires authentication")
        if kind.lower() == "bearer" and token.count(".") == 2:
            return self._app(token)
        user = self.hub.tokens.get(token) or self.installation_tokens.get(token)
        if kind.lower() not in ("token", "bearer") or user is None:
            raise Failed(401, "Bad credentials")
        return user

    def _app(self, token: str) -> User:
        """A GitHub App, by the JWT that it signed."""
        try:
            app = str(jwt.decode(token, options={"verify_signature": False})["iss"])
            jwt.decode(token, self.hub.apps[app], algorithms=["RS256"], options={"verify_iss": False})
        except (jwt.PyJWTError, KeyError):
            raise Failed(401, "A JSON web token could not be decoded") from None
        return User(f"app:{app}", "none", "Bot")

    def _shown(self, request: Request, call: Call, given: Any) -> Response:
        if isinstance(given, Response):
            return given
        headers: dict[str, str] = {}
        if isinstance(given, Made):
            if given.status == 204:
                return Response(status_code=204)
            return JSONResponse(given.body, given.status, headers=given.headers)
        if isinstance(given, Page):
            given, headers = _paged(request, call, given)
        body = json.dumps(given).encode()
        headers["ETag"] = f'W/"{hashlib.sha256(body).hexdigest()[:40]}"'
        if request.method == "GET" and request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(body, 200, headers, "application/json; charset=utf-8")


def _paged(request: Request, call: Call, page: Page) -> tuple[Any, dict[str, str]]:
    def number(name: str, default: int) -> int:
        text = call.query.get(name, "")
        return max(1, int(text)) if text.isascii() and text.isdigit() else default

    size, at = min(_MOST_PAGE, number("per_page", 30)), number("page", 1)
    last = max(1, math.ceil(len(page.items) / size))

    def link(rel: str, to: int) -> str:
        query = urlencode({**call.query, "page": str(to)})
        return f'<{call.root}{request.url.path}?{query}>; rel="{rel}"'

    links = []
    if at > 1:
        links += [link("prev", at - 1), link("first", 1)]
    if at < last:
        links += [link("next", at + 1), link("last", last)]
    items = list(page.items[(at - 1) * size : at * size])
    body = {"total_count": len(page.items), page.key: items} if page.key else items
    return body, {"Link": ", ".join(links)} if links else {}
