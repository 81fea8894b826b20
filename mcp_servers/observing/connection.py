"""One HTTP API of a store of metrics, logs or alerts: who asks, for how long, and how much is read of the answer.

The clients that exist on PyPI are synchronous, or know nothing of tenants, streaming or deadlines, and wrap what is a
handful of GET requests. No redirect is followed, no proxy used, and nothing is unpacked.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from opswarm.actions.action import may_go_on
from opswarm.bounded import Bounded, is_untrusted
from opswarm.errors import DeadlineExceeded, LimitExceeded, OpswarmError, SettingsInvalid, Unavailable
from opswarm.guard.redaction import keep_secret
from opswarm.settings import Api, secret

MOST_BYTES = 8 * 1024 * 1024
"""Of one answer."""

_CONNECT_SECONDS = 5.0
_LONGEST_URL = 2_000
_RETRY_STATUS = frozenset({429, 502, 503, 504})
_RETRY_SECONDS = 0.3
_MAX_RETRY_SECONDS = 3.0

Params = Sequence[tuple[str, str]]


class TooLarge(LimitExceeded):
    """The answer was broken off at `MOST_BYTES`."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the HTTP status, the content type without parameters, the body, and where a redirect leads."""

    status: int
    kind: str
    body: bytes
    location: str = ""
    retry_after: str = ""

    @property
    def is_busy(self) -> bool:
        """Whether asking again may help: a status of overload that is not the API's own word on this request."""
        return self.status in _RETRY_STATUS and not self.body.lstrip().startswith(b'{"status"')


class Connection:
    """One API. `name` is what a person calls it, `total` how many seconds one question may take in all."""

    def __init__(self, name: str, api: Api, http: httpx.AsyncClient, total: float) -> None:
        self.name = f"{name} at {api.url}"
        self.total = total
        self._api = api
        self._http = http

    async def read(self, path: str, params: Params = (), *, form: bool = False) -> Reply:
        """The answer to a question, which is asked once more when the first time it can't have been looked at.

        With `form` a long question goes as a form instead of in the URL. Raises `DeadlineExceeded`, `TooLarge`,
        `Unavailable` and `SettingsInvalid`, the last for a token file that can't be read.
        """
        encoded = urlencode(params)
        url = f"{self._api.url}{path}"
        posted = form and len(url) + len(encoded) > _LONGEST_URL

        async def once() -> Reply:
            if posted:
                headers = {"Content-Type": "application/x-www-form-urlencoded"}
                return await self._send("POST", url, encoded.encode(), headers)
            return await self._send("GET", f"{url}?{encoded}" if encoded else url)

        async with self._deadline():
            try:
                reply = await once()
            except _BrokenOff:
                return await once()
            if not reply.is_busy:
                return reply
            await asyncio.sleep(_seconds(reply.retry_after))
            return await once()

    async def write(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Reply:
        """Sends something that changes the API's state, once. Raises as `read` does."""
        async with self._deadline():
            await may_go_on()
            request = self._http.build_request(method, f"{self._api.url}{path}", json=body)
            content_type = request.headers.get("Content-Type", "")
            return await self._send(
                method, str(request.url), request.content, {"Content-Type": content_type} if content_type else {}
            )

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.total):
                yield
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"{self.name} did not answer within {self.total:g} s.", hint="Ask for less, or try again."
            ) from error

    async def _send(
        self, method: str, url: str, content: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        sent = {"Accept": "application/json", **self._identity(), **(headers or {})}
        try:
            async with self._http.stream(method, url, content=content or None, headers=sent) as answer:
                return await self._received(answer)
        except httpx.TimeoutException as error:
            if isinstance(error, httpx.ConnectTimeout):
                raise self._unreachable() from error
            raise TimeoutError from error
        except httpx.ConnectError as error:
            raise self._unreachable(error) from error
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
            raise _BrokenOff(f"{self.name} broke the connection off.", hint="Try again.") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"{self.name} gave no answer that can be read ({type(error).__name__}).") from error

    async def _received(self, answer: httpx.Response) -> Reply:
        body = bytearray()
        async for part in answer.aiter_raw():
            body += part
            if len(body) > MOST_BYTES:
                raise TooLarge(f"The answer of {self.name} is larger than {MOST_BYTES // 1024 // 1024} MiB.")
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        location, wait = answer.headers.get("location", ""), answer.headers.get("retry-after", "")
        return Reply(answer.status_code, kind, bytes(body), location, wait)

    def _identity(self) -> dict[str, str]:
        """The headers that say who asks. Files are read anew: what is mounted is renewed in place."""
        api = self._api
        headers = {name: value.get_secret_value() for name, value in api.headers.items()}
        if api.tenant:
            headers["X-Scope-OrgID"] = api.tenant
        if token := secret(api.token, api.token_file, ""):
            keep_secret(token)
            headers["Authorization"] = f"Bearer {token}"
        elif api.username:
            password = secret(api.password, api.password_file, "") or ""
            keep_secret(password)
            pair = base64.b64encode(f"{api.username}:{password}".encode()).decode()
            keep_secret(pair)
            headers["Authorization"] = f"Basic {pair}"
        if any(not (value.isascii() and value.isprintable()) for value in headers.values()):
            raise SettingsInvalid(f"A header for {self.name} can't be sent: it is not one line of ASCII.")
        return headers

    def _unreachable(self, error: httpx.ConnectError | None = None) -> Unavailable:
        if error is not None and is_untrusted(error):
            return Unavailable(f"{self.name} shows a certificate that is not trusted here.", hint="Set its ca_file.")
        return Unavailable(f"{self.name} can't be reached.", hint="Check its url in the settings, and that it runs.")


class _BrokenOff(Unavailable):
    """The connection ended before the whole answer was there."""


@asynccontextmanager
async def connection(name: str, api: Api, total: float) -> AsyncIterator[Connection]:
    """An API while its connections are open. Raises `SettingsInvalid` for certificates that can't be used."""
    transport = Bounded(most=MOST_BYTES + 1_048_576, verify=_trust(api))
    timeout = httpx.Timeout(total, connect=min(_CONNECT_SECONDS, total))
    async with httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False) as http:
        for value in api.headers.values():
            keep_secret(value.get_secret_value())
        yield Connection(name, api, http, total)


def _trust(api: Api) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(api.ca_file) if api.ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise SettingsInvalid(f"The CA file {api.ca_file} can't be used.") from error
    if api.client_cert_file is not None:
        try:
            # An encrypted key would be asked for at a terminal that nobody looks at.
            context.load_cert_chain(api.client_cert_file, api.client_key_file, password="")
        except (OSError, ssl.SSLError) as error:
            raise SettingsInvalid(f"The client certificate {api.client_cert_file} can't be used.") from error
    return context


def segment(text: str) -> str:
    """One segment of a path, whatever it holds. Raises `OpswarmError` for what is no text."""
    try:
        return quote(text, safe="")
    except UnicodeEncodeError as error:
        raise OpswarmError("That is not text.") from error


def _seconds(retry_after: str) -> float:
    if retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after), _MAX_RETRY_SECONDS)
    return _RETRY_SECONDS
