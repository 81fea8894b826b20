"""The one module that knows the Kubernetes client library: one cluster's API, with errors a person can act on."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import yaml
from kubernetes.aio import client
from kubernetes.aio import config as kube_config
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config import ConfigException

from mcp_servers.cluster.answers import Answer, Busy, failure
from mcp_servers.cluster.settings import ClusterSettings
from opswarm.actions.action import may_go_on
from opswarm.errors import (
    DeadlineExceeded,
    InvalidInput,
    SettingsInvalid,
    Unauthenticated,
    Unavailable,
)
from opswarm.guard.untrusted import cap_bytes, clean

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
METADATA = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
DISCOVERY = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)
_MAX_RETRY_WAIT = 3.0
_RELOAD_SECONDS = 5.0
_MAX_BODY = 64 * 1024 * 1024
_MAX_LOG = 2_000_000
_UNICODE_LINE_ENDS = {0x2028: " ", 0x2029: " "}

# Its lines repeat what a credential plugin wrote, and would go to stderr. What fails there is raised here.
logging.getLogger("kubernetes.aio.config.kube_config").setLevel(logging.CRITICAL + 1)


@dataclass(eq=False, slots=True)
class _Connection:
    """One client of the library, and how many requests are under way on it."""

    api: client.ApiClient
    busy: int = 0


Query = Mapping[str, str | int] | None


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    path: str
    query: Query
    accept: str
    body: Mapping[str, Any] | list[Any] | None = None
    content_type: str = ""

    @property
    def grant(self) -> str:
        """What RBAC has to grant for it, for a hint."""
        return {"POST": "create", "PATCH": "patch", "DELETE": "delete"}.get(self.method, "get, list")


class Cluster:
    """A cluster's API server. Made by `open_cluster`, which also closes it."""

    def __init__(self, api: client.ApiClient, settings: ClusterSettings) -> None:
        self._current = _Connection(api)
        self._open = {self._current}
        self._settings = settings
        self._reloading = asyncio.Lock()
        self._reloaded = float("-inf")
        self._loading: asyncio.Task[client.Configuration] | None = None

    @property
    def server(self) -> str:
        """The API server's URL."""
        return str(self._current.api.configuration.host)

    async def get(self, path: str, query: Query = None, *, accept: str = JSON) -> Answer:
        """GETs `path` (already quoted, see `segment`). A busy or failing server is asked once more.

        Raises `NotFound`, `PermissionDenied`, `Unauthenticated`, `InvalidInput`, `DeadlineExceeded` or
        `Unavailable`.
        """
        call = _Call("GET", path, query, accept)
        try:
            return await self._renewing(call)
        except Busy as busy:
            await asyncio.sleep(min(busy.wait, _MAX_RETRY_WAIT))
        try:
            return await self._once(self._current, call)
        except Busy as busy:
            raise busy.error from None

    async def post(self, path: str, body: Mapping[str, Any], query: Query = None) -> dict[str, Any]:
        """Creates what `body` says below `path`; gives what is there now. Raises as `patch` does."""
        return await self._write(_Call("POST", path, query, JSON, body, JSON))

    async def patch(
        self, path: str, body: Mapping[str, Any] | list[Any], query: Query = None, *, kind: str = MERGE_PATCH
    ) -> dict[str, Any]:
        """Patches one object; gives what it is now. `kind` is the patch's media type.

        Sent once: after `Unavailable` or `DeadlineExceeded` it may have been done. Raises `Refused` when it was
        not, and what `get` raises.
        """
        return await self._write(_Call("PATCH", path, query, JSON, body, kind))

    async def delete(self, path: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Deletes one object, as DeleteOptions say. Raises as `patch` does."""
        return await self._write(_Call("DELETE", path, None, JSON, options, JSON))

    async def _write(self, call: _Call) -> dict[str, Any]:
        try:
            return (await self._renewing(call)).json()
        except Busy as busy:
            raise busy.error from None

    async def _renewing(self, call: _Call) -> Answer:
        """One try, and another with new credentials where these are refused: then nothing was done."""
        used = self._current
        try:
            return await self._once(used, call)
        except Unauthenticated:
            if not await self._reload(used):
                raise
        return await self._once(self._current, call)

    async def close(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        for connection in tuple(self._open):
            await self._discard(connection)

    async def _discard(self, connection: _Connection) -> None:
        if connection in self._open:
            self._open.remove(connection)
            api: Any = connection.api  # Carries no types.
            await api.close()

    async def _reload(self, used: _Connection) -> bool:
        """Reads the kubeconfig again: an exec plugin or a token file may have new credentials by now.

        The library renews only what a pod's service account uses. Says whether there is a newer client than `used`;
        not more than one read in a few seconds, so that a token that is simply wrong does not run the plugin in a
        loop. Raises `Unauthenticated` when the kubeconfig, its files or its plugin fail by now.
        """
        if self._settings.in_cluster:
            return False
        async with self._reloading:
            if self._current is not used:
                return True
            clock = asyncio.get_running_loop().time
            late = self._loading is not None and self._loading.done()
            if not late and clock() - self._reloaded < _RELOAD_SECONDS:
                return False
            try:
                self._current = _Connection(_client(await self._renewed()))
            except SettingsInvalid as error:
                raise Unauthenticated(error.message, hint=error.hint) from error
            finally:
                self._reloaded = clock()  # Of the end, so that who waited for the lock does not wait once more.
            self._open.add(self._current)
        if not used.busy:
            await self._discard(used)
        return True

    async def _renewed(self) -> client.Configuration:
        # The library can't end a plugin that hangs: it is waited for again, and never started a second time.
        loading = self._loading = self._loading or asyncio.create_task(_load(self._settings))
        done, _ = await asyncio.wait({loading}, timeout=self._settings.total)
        if not done:
            raise Unauthenticated(
                "The credentials of this kubeconfig could not be renewed in time.", hint="Run its plugin by hand."
            )
        self._loading = None
        return loading.result()

    async def _once(self, used: _Connection, call: _Call) -> Answer:
        used.busy += 1
        try:
            return await self._request(used.api, call)
        finally:
            used.busy -= 1
            # The last request of a client that was replaced closes it. Each ends within its timeout.
            if used is not self._current and not used.busy:
                await self._discard(used)

    async def _request(self, api: client.ApiClient, call: _Call) -> Answer:
        url = f"{str(api.configuration.host).rstrip('/')}{call.path}"
        if call.query:
            url += "?" + urlencode(call.query)
        headers = {"Accept": call.accept}
        if call.content_type:
            headers["Content-Type"] = call.content_type
        await self._authenticate(api, headers)
        if call.method != "GET":
            await may_go_on()
        timeout = aiohttp.ClientTimeout(total=self._settings.total, sock_connect=self._settings.connect)
        try:
            async with asyncio.timeout(self._settings.total + 1):
                rest: Any = api.rest_client  # Carries no types.
                response = await rest.request(
                    call.method, url, headers=headers, body=call.body, _request_timeout=timeout
                )
                raw = await response.read()
        except ApiException as error:
            raise self._unavailable("refused the request") from error
        except aiohttp.ConnectionTimeoutError as error:
            raise self._unavailable(f"can't be reached: no connection within {self._settings.connect:g} s") from error
        except (TimeoutError, aiohttp.ServerTimeoutError) as error:
            raise DeadlineExceeded(
                f"The API server at {self.server} did not answer within {self._settings.total:g} s.",
                hint="It may be overloaded; try a narrower request.",
            ) from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise self._unavailable("has a certificate that this kubeconfig does not trust") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._unavailable("can't be reached") from error
        if len(raw) > _MAX_BODY:
            raise InvalidInput("The answer is too large.", hint="Narrow by namespace, selector or limit.")
        text = raw.decode("utf-8", errors="replace")
        if response.status >= 400:
            retry_after = response.headers.get("Retry-After")
            raise failure(response.status, text, self._unavailable(""), retry_after, call.grant)
        return Answer(text, response.headers.get("Content-Type", ""))

    async def _authenticate(self, api: client.ApiClient, headers: dict[str, str]) -> None:
        try:
            async with asyncio.timeout(self._settings.total):
                # Also renews the token of a service account, which the kubelet rotates.
                entries = await api.configuration.auth_settings()
            for entry in entries.values():
                if entry.get("value"):
                    headers[entry["key"]] = str(entry["value"]).strip()  # Files end in a newline.
        except (TimeoutError, OSError, ConfigException) as error:
            raise Unauthenticated("The credentials of this kubeconfig could not be renewed.") from error

    def _unavailable(self, what: str) -> Unavailable:
        host = urlsplit(self.server)
        return Unavailable(
            f"The Kubernetes API server at {host.scheme}://{host.netloc} {what}".rstrip() + ".",
            hint="Check that the cluster is up and that the kubeconfig is right.",
        )

    async def answers(self) -> None:
        """Returns when the API server answers. Raises as `get` does."""
        await self.get("/version")

    async def logs(
        self, namespace: str, pod: str, container: str, *, previous: bool = False, tail: int = 100, since: int = 0
    ) -> str:
        """The last `tail` lines of a container's log, `since` seconds back (0: all), cleaned.

        Fewer lines when they would be over 2 MB: always the newest.
        """
        query: dict[str, str | int] = {"tailLines": tail, "timestamps": "true", "limitBytes": _MAX_LOG}
        if container:
            query["container"] = container
        if previous:
            query["previous"] = "true"
        if since:
            query["sinceSeconds"] = since
        path = f"/api/v1/namespaces/{segment(namespace)}/pods/{segment(pod)}/log"
        answer = await self.get(path, query, accept="*/*")
        # limitBytes counts from the oldest of the lines, so a full answer lacks the newest.
        while tail > 1 and len(answer.text.encode()) >= _MAX_LOG:
            tail = max(1, tail // 4)
            answer = await self.get(path, {**query, "tailLines": tail}, accept="*/*")
        return clean(answer.text).translate(_UNICODE_LINE_ENDS)


def segment(value: str) -> str:
    """One segment of a URL path. Raises `InvalidInput` for what could leave it."""
    if not value or value in (".", "..") or "/" in value or len(value) > 253:
        raise InvalidInput(f"'{cap_bytes(clean(value), 80)}' is not a valid name.")
    return quote(value, safe="")


def _client(configuration: client.Configuration) -> client.ApiClient:
    """Raises `SettingsInvalid` when a certificate or key of the kubeconfig can't be used."""
    try:
        return client.ApiClient(configuration)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise SettingsInvalid(
            "A certificate or key of the kubeconfig can't be used.", hint="Check the cluster's CA and the user's files."
        ) from error


async def _load(settings: ClusterSettings) -> client.Configuration:
    configuration = client.Configuration()
    configuration.retries = None
    loading: Any = kube_config  # The library's loaders carry no types.
    loader: Any = None
    try:
        if settings.in_cluster:
            loading.load_incluster_config(client_configuration=configuration)
        else:
            file = str(settings.kubeconfig.expanduser()) if settings.kubeconfig else None
            loader = await loading.load_kube_config(
                config_file=file, context=settings.context, client_configuration=configuration, persist_config=False
            )
    except ConfigException as error:
        raise SettingsInvalid(_config_sentence(settings, error)) from error
    except (OSError, yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        named = str(error.filename) if isinstance(error, OSError) and error.filename else ""
        if named and named != str(settings.kubeconfig and settings.kubeconfig.expanduser()):
            raise SettingsInvalid(f"The file {named}, which the kubeconfig names, can't be read.") from error
        raise SettingsInvalid(
            f"The kubeconfig {settings.kubeconfig or '(default)'} can't be read as one.",
            hint="Check that it is a valid kubeconfig file.",
        ) from error
    if plugin := _silent_plugin(loader, configuration):
        raise SettingsInvalid(
            f"The credential plugin '{plugin}' of this kubeconfig could not run or gave nothing.",
            hint="Run it by hand, or put it on the PATH.",
        )
    return configuration


def _silent_plugin(loader: Any, configuration: client.Configuration) -> str:
    """The exec plugin that left no credentials, or "". The library logs its failure and goes on without."""
    user = getattr(loader, "_user", None)
    section = user.safe_get("exec") if user is not None else None
    if section is None or configuration.api_key or configuration.cert_file:
        return ""
    command = section.get("command", "?")
    return cap_bytes(clean(str(command)), 300)


def _config_sentence(settings: ClusterSettings, error: ConfigException) -> str:
    if settings.in_cluster:
        return "This process does not run in a pod with a service account. Set kubernetes.in_cluster to false."
    if settings.context and settings.context in str(error):
        return f"The kubeconfig has no context '{settings.context}'. `kubectl config get-contexts` lists them."
    if "File does not exist" in str(error):
        return f"{str(error).partition(': ')[2]}, which the kubeconfig names, does not exist. Check its path."
    return f"The kubeconfig {settings.kubeconfig or '(default)'} can't be used. Name one that exists and is complete."


@asynccontextmanager
async def open_cluster(settings: ClusterSettings) -> AsyncIterator[Cluster]:
    """The cluster that `settings` name. Raises `SettingsInvalid` when they name none."""
    cluster = Cluster(_client(await _load(settings)), settings)
    try:
        yield cluster
    finally:
        await cluster.close()
