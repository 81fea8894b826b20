"""GitHub's API over gidgethub, which nothing else here knows: who we are, pages, ETags, rate limits, and errors.

gidgethub gives the requests, the conditional ones (ETag) and the Apps' tokens, on an HTTP client of ours. (githubkit
knows every endpoint by type, for 30 MB of schemas and a client per task; PyGithub is synchronous.)
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode, urlsplit

import gidgethub
import httpx
import jwt
from cachetools import LRUCache
from gidgethub import abc, apps

from opswarm import __version__
from opswarm.actions.action import may_go_on
from opswarm.bounded import Bounded, is_untrusted
from opswarm.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidInput,
    LimitExceeded,
    NotFound,
    OpswarmError,
    PermissionDenied,
    SettingsInvalid,
    Unauthenticated,
    Unavailable,
)
from opswarm.guard.redaction import keep_secret
from opswarm.guard.untrusted import cap_bytes
from opswarm.mcp.text import duration, one_line
from opswarm.settings import GitHub, secret

MOST_PAGE = 100
"""Items that GitHub gives at a time."""

MOST_LOG_BYTES = 1_048_576
"""Of a job's log, from its end."""

_CACHED_CHARACTERS = 8_000_000
_CONNECT_SECONDS = 5.0
_LONGEST_WAIT = 10.0
"""For how long a busy GitHub is waited for before it is said so, in seconds."""

_RENEW_SECONDS = 300.0
_MOVED = frozenset({301, 307, 308})
_ACCEPT = "application/vnd.github+json"
_MATCHES = "application/vnd.github.text-match+json"
_NO_TOKEN = "Set github.token_file, or github.app_id with its private_key_file."
_FLAVOURED = "Check github.url: for GitHub Enterprise it ends in /api/v3, for Gitea and Forgejo in /api/v1."


@dataclass(frozen=True, slots=True)
class Paged:
    """Some of a list. `more` is whether there are others after them; `total` is None where GitHub does not say."""

    items: Sequence[Any]
    more: bool
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left of the requests that one may make, until `reset` (seconds since the epoch)."""

    resource: str
    limit: int
    remaining: int
    reset: float


class _Cache(LRUCache[str, Any]):
    """The newest answers, by how long they are as text."""

    def __init__(self) -> None:
        super().__init__(_CACHED_CHARACTERS, getsizeof=lambda value: len(str(value[2])))

    def __setitem__(self, key: str, value: Any) -> None:
        if self.getsizeof(value) <= self.maxsize // 4:
            super().__setitem__(key, value)


class _Api(abc.GitHubAPI):
    """gidgethub on our HTTP client, with the limits of each of GitHub's resources kept apart."""

    def __init__(self, http: httpx.AsyncClient, base_url: str) -> None:
        super().__init__(f"opswarm/{__version__}", cache=_Cache(), base_url=base_url)
        self.quotas: dict[str, Quota] = {}
        self._http = http

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes = b""
    ) -> tuple[int, Mapping[str, str], bytes]:
        response = await self._http.request(method, url, headers=dict(headers), content=body)
        if method == "GET" and response.status_code in _MOVED:
            # A renamed repository. Only on the same host: what we prove ourselves with goes nowhere else.
            there = httpx.URL(url).join(response.headers.get("location", ""))
            if there.netloc == httpx.URL(url).netloc and there.scheme == httpx.URL(url).scheme:
                response = await self._http.request(method, there, headers=dict(headers))
        self._count(response.headers)
        return response.status_code, response.headers, response.content

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _count(self, headers: Mapping[str, str]) -> None:
        try:
            quota = Quota(
                headers.get("x-ratelimit-resource", "core"),
                int(headers["x-ratelimit-limit"]),
                int(headers["x-ratelimit-remaining"]),
                float(headers["x-ratelimit-reset"]),
            )
        except (KeyError, ValueError):
            return
        self.quotas[quota.resource] = quota

    async def manage_rate_limit(self, *, method: str, url: str) -> None:
        """Refuses what would only be counted against us. Raises `LimitExceeded`."""
        path = urlsplit(url).path
        resource = "code_search" if path.endswith("/search/code") else "search" if "/search/" in path else "core"
        quota = self.quotas.get(resource)
        if quota is not None and quota.remaining <= 0 and quota.reset > time.time():
            raise spent(quota)

    async def handle_rate_limit_error(
        self, *, method: str, url: str, exception: gidgethub.HTTPException, attempt: int
    ) -> bool:
        """Waits once for a secondary limit that is over soon. What changes something is never sent again."""
        if method != "GET" and not url.endswith("/graphql"):
            return False
        after = exception.headers.get("retry-after", "")
        if int(exception.status_code) not in (403, 429) or attempt > 1 or not (after.isascii() and after.isdigit()):
            return False
        if float(after) > _LONGEST_WAIT:
            return False
        await self.sleep(float(after))
        return True

    async def page(self, path: str, accept: str = _ACCEPT) -> tuple[Any, bool]:
        """What a GET gives, and whether another page follows."""
        data, more, _ = await self._make_request("GET", path, None, b"", accept)
        return data, bool(more)


def spent(quota: Quota) -> LimitExceeded:
    """The error of a limit that is used up."""
    at = datetime.fromtimestamp(quota.reset, UTC)
    return LimitExceeded(
        f"GitHub's limit of {quota.limit} requests ({quota.resource}) is used up.",
        hint=f"Ask again after {at:%H:%M:%S} UTC, in {duration(quota.reset - time.time() + 1)}.",
    )


class Client:
    """One GitHub, as the identity that the settings name. Paths are without a host: `/repos/o/r/pulls`."""

    def __init__(self, settings: GitHub, http: httpx.AsyncClient) -> None:
        self.settings = settings
        self.name = f"GitHub at {settings.url}"
        self._api, self._http = _Api(http, settings.url), http
        self._expires = 0.0
        self._login = ""
        self._signing = asyncio.Lock()

    @property
    def quotas(self) -> Sequence[Quota]:
        """The limits that GitHub told last."""
        return tuple(self._api.quotas.values())

    async def get(self, path: str, **params: Any) -> Any:
        """The JSON at `path`. Raises `OpswarmError`."""
        async with self._asked():
            return (await self._api.page(_with(path, params)))[0]

    async def page(self, path: str, *, page: int = 1, size: int = MOST_PAGE, key: str = "", **params: Any) -> Paged:
        """One page of a list, from 1; `key` where it lies in an object with a count."""
        accept = _MATCHES if path.startswith("/search/") else _ACCEPT
        async with self._asked():
            data, more = await self._api.page(_with(path, {**params, "per_page": size, "page": page}), accept)
        total = data.get("total_count") if isinstance(data, dict) else None
        items = data.get(key) if isinstance(data, dict) and key else data
        if not isinstance(items, list):
            raise Unavailable(f"{self.name} answered with something that is no list.", hint=_FLAVOURED)
        return Paged(items, more, total)

    async def all(self, path: str, *, most: int = 1000, key: str = "", **params: Any) -> Paged:
        """The pages of a list together, up to `most` items."""
        found: list[Any] = []
        number, more, total = 1, True, None
        while more and len(found) < most:
            one = await self.page(path, page=number, key=key, **params)
            found += one.items
            more, total, number = one.more, one.total, number + 1
        return Paged(found[:most], more or len(found) > most, total)

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        async with self._asked():
            await may_go_on()
            return await self._api.post(path, None, data=dict(body), accept=_ACCEPT)

    async def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        async with self._asked():
            await may_go_on()
            return await self._api.patch(path, None, data=dict(body), accept=_ACCEPT)

    async def put(self, path: str, body: Mapping[str, Any]) -> Any:
        async with self._asked():
            await may_go_on()
            return await self._api.put(path, None, data=dict(body), accept=_ACCEPT)

    async def graphql(self, query: str, **variables: Any) -> Any:
        """The `data` of a query. Raises `OpswarmError`."""
        url = self.settings.url
        endpoint = f"{url.removesuffix('/v3')}/graphql"  # Enterprise: /api/v3 and /api/graphql.
        async with self._asked():
            return await self._api.graphql(query, endpoint=endpoint, **variables)

    async def log(self, path: str) -> str:
        """A text that GitHub keeps elsewhere, from its end. Our token does not go there. Raises `OpswarmError`."""
        async with self._asked():
            headers = {"User-Agent": "opswarm", "Authorization": f"token {self._api.oauth_token}"}
            first = await self._http.get(f"{self.settings.url}{path}", headers=headers)
            there = first.headers.get("location", "")
            if first.status_code in (301, 302, 307) and there:
                return await self._tail(there)
            if first.status_code == 200:
                return first.text[-MOST_LOG_BYTES:]
            raise gidgethub.HTTPException(HTTPStatus(first.status_code), headers=first.headers)

    async def _tail(self, url: str) -> str:
        if urlsplit(url).scheme not in ("https", urlsplit(self.settings.url).scheme):
            raise Unavailable(f"{self.name} keeps this log where it can't be read safely.")
        parts: deque[bytes] = deque()
        size = 0
        async with self._http.stream("GET", url, headers={"User-Agent": "opswarm"}) as answer:
            if answer.status_code != 200:
                raise Unavailable(f"The log can't be read: its store answered HTTP {answer.status_code}.")
            async for part in answer.aiter_bytes():
                parts.append(part)
                size += len(part)
                while size - len(parts[0]) >= MOST_LOG_BYTES:
                    size -= len(parts.popleft())
        return b"".join(parts).decode("utf-8", errors="replace")[-MOST_LOG_BYTES:]

    async def login(self) -> str:
        """Who we are to GitHub: `name`, or `app[bot]`. Raises `OpswarmError`."""
        if not self._login:
            if self.settings.app_id:
                async with self._asked():
                    app = await self._api.getitem("/app", jwt=self._app_token())
                self._login = f"{app['slug']}[bot]"
            else:
                self._login = str((await self.get("/user"))["login"])
        return self._login

    async def check(self) -> None:
        """Whether GitHub answers us. Raises `OpswarmError`."""
        await self.login()

    @asynccontextmanager
    async def _asked(self) -> AsyncIterator[None]:
        """Signs in, bounds the time, and turns what goes wrong into ours."""
        seconds = self.settings.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                await self._sign_in()
                yield
        except (TimeoutError, httpx.TimeoutException) as error:
            raise DeadlineExceeded(
                f"{self.name} did not answer within {seconds:g} s.", hint="Try again, or ask for less."
            ) from error
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        except gidgethub.GitHubException as error:
            raise self._refused(error) from error
        except ValueError as error:
            raise Unavailable(f"{self.name} answered with something that is not JSON.", hint=_FLAVOURED) from error

    async def _sign_in(self) -> None:
        if not self.settings.app_id:
            token = secret(self.settings.token, self.settings.token_file, "GITHUB_TOKEN")
            if not token:
                raise Unauthenticated("There is no token for GitHub.", hint=_NO_TOKEN)
            keep_secret(token)
            self._api.oauth_token = token
            return
        async with self._signing:
            if time.time() + _RENEW_SECONDS > self._expires:
                await self._install()

    async def _install(self) -> None:
        """Gets the App's token for its installation, which is good for an hour."""
        number, key = self.settings.app_id, self._key()
        installation = self.settings.installation_id
        if not installation:
            found = await self._api.getitem("/app/installations", jwt=self._app_token())
            if len(found) != 1:
                raise SettingsInvalid(
                    f"The GitHub App has {len(found)} installations.", hint="Say which: github.installation_id."
                )
            installation = str(found[0]["id"])
        given = await apps.get_installation_access_token(
            self._api, installation_id=installation, app_id=number, private_key=key
        )
        self._api.oauth_token = given["token"]
        keep_secret(given["token"])
        self._expires = datetime.fromisoformat(given["expires_at"]).timestamp()

    def _key(self) -> str:
        key = secret(self.settings.private_key, self.settings.private_key_file, "")
        if not key:
            raise SettingsInvalid("github.app_id needs private_key_file.")
        return key

    def _app_token(self) -> str:
        try:
            return apps.get_jwt(app_id=self.settings.app_id, private_key=self._key())
        except (jwt.PyJWTError, ValueError) as error:
            raise SettingsInvalid("The private key of the GitHub App can't be used.") from error

    def _unreachable(self, error: httpx.HTTPError) -> Unavailable:
        if is_untrusted(error):
            return Unavailable(f"{self.name} shows a certificate that is not trusted here.", hint="Set github.ca_file.")
        if isinstance(error, httpx.ConnectError):
            return Unavailable(f"{self.name} can't be reached.", hint="Check github.url and the network.")
        return Unavailable(f"{self.name} broke the connection off.", hint="Try again.")

    def _refused(self, error: gidgethub.GitHubException) -> OpswarmError:
        said = cap_bytes(one_line(str(error)), 400).rstrip(".")
        if isinstance(error, gidgethub.GraphQLException):
            if isinstance(error, gidgethub.GraphQLAuthorizationFailure):
                return Unauthenticated("GitHub does not accept our token.", hint=_NO_TOKEN)
            return NotFound(f"GitHub: {said}.") if "resolve to" in said else Unavailable(f"GitHub refused: {said}.")
        if not isinstance(error, gidgethub.HTTPException):
            return Unavailable(f"{self.name} gave no answer that can be read.", hint=_FLAVOURED)
        status = int(error.status_code)
        limits = isinstance(error, gidgethub.RateLimitExceeded) or "retry-after" in error.headers or status == 429
        if limits and status in (403, 429):
            return self._limited(error)
        match status:
            case 401:
                return Unauthenticated(f"GitHub does not accept our token: {said}.", hint=_NO_TOKEN)
            case 403:
                return PermissionDenied(
                    f"GitHub does not let {self._login or 'us'} do this: {said}.",
                    hint="Give the token or the App the permission, and see that it covers this repository.",
                )
            case 404 | 410:
                return NotFound(
                    f"GitHub: {said}.", hint="It is not there, or our token may not see it: check the names."
                )
            case 405 | 409:
                return Conflict(f"GitHub refused: {said}.")
            case 400 | 413 | 415 | 422:
                return InvalidInput(f"GitHub refused the request: {said}.")
        if 300 <= status < 400:
            return NotFound("GitHub says that this has moved.", hint="Use the repository's new name.")
        return Unavailable(f"GitHub answered HTTP {status}: {said}.", hint="Try again in a minute.")

    def _limited(self, error: gidgethub.HTTPException) -> LimitExceeded:
        self._api._count(error.headers)
        quota = self._api.quotas.get(error.headers.get("x-ratelimit-resource", "core"))
        if quota is not None and quota.remaining <= 0:
            return spent(quota)
        after = error.headers.get("retry-after", "")
        wait = f"in {duration(float(after))}" if after.isascii() and after.isdigit() else "in a minute"
        return LimitExceeded("GitHub asks us to go slower.", hint=f"Ask again {wait}.")


def _with(path: str, params: Mapping[str, Any]) -> str:
    given = {name: value for name, value in params.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path


@asynccontextmanager
async def open_client(settings: GitHub) -> AsyncIterator[Client]:
    """The client while its connections are open. Raises `SettingsInvalid` for a CA that can't be used."""
    try:
        trust = ssl.create_default_context(cafile=str(settings.ca_file) if settings.ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise SettingsInvalid(f"The CA file {settings.ca_file} can't be used.") from error
    timeout = httpx.Timeout(settings.timeout_seconds, connect=_CONNECT_SECONDS)
    transport = Bounded(most=16 * 1024 * 1024, verify=trust)
    async with httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False) as http:
        yield Client(settings, http)
