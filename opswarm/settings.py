"""Every setting, typed, in one place.

Read, later ones winning: the defaults here, `opswarm.yaml` (`OPSWARM_CONFIG` names another file), environment
variables `OPSWARM_…` with `__` between levels (`OPSWARM_MODELS__STANDARD=ollama_chat/qwen3`). A secret can be
given as a file instead: the field with `_file` at its end. `docs/settings.md` is generated from this module.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from opswarm.errors import SettingsInvalid

PORTS: Mapping[str, int] = {
    "orchestrator": 8700,
    "devops": 8701,
    "pr": 8702,
    "alert": 8703,
    "gateway": 8704,
    "kubernetes": 8711,
    "flux": 8712,
    "github": 8713,
    "loki": 8714,
    "prometheus": 8715,
}
"""The port each service listens on when it runs alone and no other is asked for."""


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("this time zone is not known") from None
    return name


TimeZone = Annotated[str, AfterValidator(_zone)]
"""The name of a time zone that is known here, such as `Europe/Berlin`."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(Section):
    host: str = Field("127.0.0.1", description="Address to listen on. `0.0.0.0` in a container.")
    port: int = Field(8700, ge=0, le=65535, description="Port of `opswarm up`; 0 takes a free one.")
    max_request_bytes: int = Field(
        1_048_576, ge=1024, description="Largest request body, in bytes. A longer message is refused."
    )
    stop_seconds: float = Field(
        3.0, gt=0, le=60, description="Seconds that streams get to finish when a service is stopped."
    )
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Host names, besides loopback, under which the tool servers may be called."
    )


class Metrics(Section):
    enabled: bool = Field(True, description="Serve Prometheus metrics.")
    host: str = Field("127.0.0.1", description="Address of `/metrics`; it needs no token, so keep it inside.")
    port: int = Field(9464, ge=0, le=65535, description="Port of `/metrics`; 0 takes a free one.")


class Log(Section):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severe level logged.")
    format: Literal["json", "text"] = Field("json", description="One JSON object a line, or text for a terminal.")


def _vouched(url: str) -> str:
    """A URL whose host proves itself, or which is on this machine."""
    parts = urlsplit(url)
    here = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if url and not (parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and here))):
        raise ValueError("this must be an https URL (http on loopback only)")
    return url


VouchedUrl = Annotated[str, AfterValidator(_vouched)]

_NAME = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
Account = Annotated[str, Field(pattern=rf"^{_NAME}/{_NAME}$")]
"""A Kubernetes ServiceAccount: `namespace/name`."""


def _network(text: str) -> str:
    if ip_network(text).prefixlen == 0:
        raise ValueError("this is every address there is")
    return text


Network = Annotated[str, AfterValidator(_network)]
"""An address such as `10.1.2.3`, or a range such as `10.1.0.0/24`."""

HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{0,64}$")]


class ForwardAuth(Section):
    """People whom a proxy in front of the orchestrator has signed in."""

    proxies: tuple[Network, ...] = Field(
        (), description="Addresses of the proxies that may say who a person is. Empty: none may."
    )
    kind: Literal["authentik", "oauth2-proxy", "auth-request"] = Field(
        "authentik", description="Whose headers: `X-authentik-…`, `X-Forwarded-…` or `X-Auth-Request-…`."
    )
    user_header: HeaderName = Field("", description="Header with the person's name. Default: that of `kind`.")
    groups_header: HeaderName = Field("", description="Header with the person's groups. Default: that of `kind`.")
    separator: Literal["", "|", ",", ";"] = Field(
        "", description="What stands between two groups. Default: that of `kind`."
    )
    roles: dict[str, Literal["viewer", "operator", "admin"]] = Field(
        {}, description="The role that a group gives; whoever is in none of them is refused."
    )


class Identity(Section):
    signing_key_file: Path | None = Field(
        None, description="PEM of the Ed25519 key that signs tokens. Only the orchestrator needs it."
    )
    public_key_file: Path | None = Field(
        None, description="PEM of the public key that checks tokens. Default: made at first start, in `home`."
    )
    service_token_file: Path | None = Field(
        None,
        description="File with the token by which this service proves itself to the orchestrator: one of ours, or a "
        "projected ServiceAccount token.",
    )
    issuer: VouchedUrl = Field(
        "", description="Issuer of the cluster's ServiceAccount tokens, as in their `iss`. Empty: none is taken."
    )
    jwks_url: VouchedUrl = Field("", description="Where that issuer's keys are. Default: what its discovery says.")
    audience: str = Field("opswarm", min_length=1, description="Audience that a ServiceAccount token must be for.")
    ca_file: Path | None = Field(None, description="CA of the issuer. Default: the CAs of this machine.")
    token_file: Path | None = Field(
        None, description="File with the pod's own token, where the issuer wants one before it shows its keys."
    )
    service_accounts: dict[Account, Annotated[str, Field(pattern=r"^(agent|service):[a-z][a-z0-9-]{0,31}$")]] = Field(
        {}, description="Who a ServiceAccount is: `namespace/name` to `agent:<name>` or `service:<name>`."
    )
    forward_auth: ForwardAuth = Field(ForwardAuth(), description="People whom a proxy has signed in.")

    @model_validator(mode="after")
    def _accounts_of_somebody(self) -> Self:
        if self.service_accounts and not self.issuer:
            raise ValueError("service_accounts needs issuer")
        return self


class Control(Section):
    """The kill switch: where its state is kept, and how closely it is followed."""

    kind: Literal["file", "configmap"] = Field(
        "file", description="Where the pause is kept: a file on this machine, or a ConfigMap of this cluster."
    )
    file: Path | None = Field(None, description="The file. Default: `control.json` in `home`.")
    namespace: str = Field(
        "",
        pattern=r"^$|^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        description="Namespace of the ConfigMap. Default: the pod's own.",
    )
    configmap: str = Field(
        "opswarm-control", pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", description="Name of the ConfigMap."
    )
    refresh_seconds: float = Field(
        0.5, gt=0, le=0.8, description="Seconds between looks at it; a pause counts everywhere within 1 s."
    )
    stale_seconds: float = Field(
        5.0,
        gt=1,
        le=60,
        description="Seconds without a word of it after which it is said to be unknown. Actions want one a second old.",
    )


class Turn(Section):
    max_steps: int = Field(12, ge=1, le=100, description="Most model calls in one turn.")
    max_seconds: float = Field(300.0, gt=0, le=3600, description="Longest wall time of one turn, in seconds.")
    max_tool_result_bytes: int = Field(
        24_000, ge=512, description="Most bytes of one tool result that a model is shown."
    )
    max_turn_tool_bytes: int = Field(160_000, ge=1024, description="Most bytes of tool results that one turn collects.")
    max_parallel_tools: int = Field(6, ge=1, le=32, description="Read-only tool calls run at the same time.")
    context_tokens: int = Field(
        24_000,
        ge=1000,
        description="Conversation size, in estimated tokens, past which older turns are compacted.",
    )


class OutsideAgent(Section):
    """An A2A agent that is not of this swarm. It gets the question, and none of our tokens."""

    url: str = Field(pattern=r"^https?://", description="Its base URL, below which its card is.")
    token: SecretStr | None = Field(None, description="The bearer token that it wants.")
    token_file: Path | None = Field(None, description="File with that token; read at each request.")

    def bearer(self) -> str:
        """The token at hand, or "". Raises `SettingsInvalid` when its file can't be read."""
        return secret(self.token, self.token_file, "") or ""


class Orchestrator(Section):
    agents: dict[str, str] = Field(
        {"devops": ""},
        description="Agents in the directory: name to base URL. An empty URL means the one under `addresses`.",
    )
    outside: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")], OutsideAgent] = Field(
        {}, description="Agents of others in the directory, by a name of yours; routed to like ours."
    )
    tool_servers: tuple[str, ...] = Field(
        ("flux", "github", "kubernetes", "loki", "prometheus"),
        description="Tool servers whose tools `/mcp` passes through to a client that asks for them."
    )
    tool_wait_seconds: float = Field(
        200.0,
        gt=0,
        le=3600,
        description="How long `invoke_agent` of `/mcp` waits at a time, in seconds; Claude Desktop gives up after 240.",
    )
    refresh_seconds: float = Field(30.0, gt=0, description="Seconds between looks at the agents' cards.")
    delegation_seconds: float = Field(
        330.0, gt=0, le=3600, description="Deadline of one delegated request, in seconds."
    )
    default_agent: str = Field("devops", description="Who gets a request that neither the rules nor a model can place.")
    routing_seconds: float = Field(
        15.0, gt=0, le=120, description="Longest wait for a model's routing decision, in seconds."
    )
    max_fan_out: int = Field(3, ge=1, le=10, description="Most agents that one request is sent to at once.")

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        if twice := set(self.agents) & set(self.outside):
            raise ValueError(f"both ours and outside: {', '.join(sorted(twice))}")
        return self


def _listed(value: Any) -> Any:
    """Names given as one text: as JSON, or with commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return tuple(s.strip() for s in value.split(",") if s.strip())


Chain = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed), Field(min_length=1, max_length=8)]
"""Models in the order in which they are tried."""


class Price(Section):
    input: float = Field(ge=0, description="USD for a million tokens read.")
    output: float = Field(ge=0, description="USD for a million tokens written.")


class Endpoint(Section):
    """An OpenAI-compatible API; its models are named `<endpoint>/<model>`."""

    api_base: str = Field(description="Base URL, such as `http://vllm.lan:8000/v1`.")
    api_key: SecretStr | None = Field(None, description="Its key, where it wants one.")
    api_key_file: Path | None = Field(None, description="File with its key.")


class AgentModels(Section):
    model: str = Field("standard", description="Tier or LiteLLM name for the agent's turns.")
    steps: dict[int, str] = Field(
        {}, description="Another tier or name for some model calls of a turn, by their number, from 1."
    )


_PROVIDERS = frozenset({"anthropic", "offline", "ollama", "ollama_chat", "openai"})
"""Names that mean something by themselves in the gateway."""


class Models(Section):
    fast: Chain = Field(("auto",), description="Models of the tier `fast` (routing, short answers), in order.")
    standard: Chain = Field(("auto",), description="Models of the tier `standard` (the agents' turns), in order.")
    deep: Chain = Field(("auto",), description="Models of the tier `deep` (hard questions), in order.")
    agents: dict[str, AgentModels] = Field({}, description="Models of single agents, by the agent's name.")
    endpoints: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")], Endpoint] = Field(
        {}, description="Further OpenAI-compatible APIs, by a name of your own that is no provider's."
    )
    providers: tuple[str, ...] = Field(
        (), description="Further LiteLLM providers whose models callers may name, such as `gemini`."
    )
    prices: dict[str, Price] = Field(
        {}, description="Prices of models that LiteLLM's map does not have, or has wrong, by LiteLLM name."
    )
    retries: int = Field(2, ge=0, le=10, description="How often a busy or unreachable provider is asked again.")
    max_retry_seconds: float = Field(
        20.0, ge=0, le=300, description="Longest wait before asking again; who asks for more is passed over."
    )
    breaker_failures: int = Field(
        5, ge=1, description="Failures in a row after which a provider is left alone for a while."
    )
    breaker_seconds: float = Field(30.0, gt=0, description="How long a failing provider is left alone, in seconds.")
    concurrency: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {"ollama": 1}, description="Calls at the same time, by provider. Ollama works on one after the other."
    )
    default_concurrency: int = Field(64, ge=1, description="Calls at the same time, of any other provider.")
    max_queued: int = Field(64, ge=0, description="Most calls that wait for one provider; more are refused.")
    queue_seconds: float = Field(240.0, gt=0, description="Longest wait for a place at a provider, in seconds.")
    timeout_seconds: float = Field(120.0, gt=0, description="Longest silence of a model's reply, in seconds.")
    anthropic_api_key: SecretStr | None = Field(None, description="Anthropic key; also `ANTHROPIC_API_KEY`.")
    anthropic_api_key_file: Path | None = Field(None, description="File with the Anthropic key.")
    anthropic_api_base: str | None = Field(None, description="Another base URL of the Anthropic API.")
    openai_api_key: SecretStr | None = Field(None, description="OpenAI key; also `OPENAI_API_KEY`.")
    openai_api_key_file: Path | None = Field(None, description="File with the OpenAI key.")
    openai_api_base: str | None = Field(None, description="Base URL of an OpenAI-compatible API.")
    ollama_api_base: str | None = Field(
        None, description="Base URL of Ollama, such as `http://localhost:11434`; also `OLLAMA_API_BASE`."
    )
    ollama_num_ctx: int = Field(
        16_384, ge=2048, description="Context window asked of Ollama, in tokens; its own default cuts tools off."
    )

    @field_validator("endpoints")
    @classmethod
    def _of_ones_own(cls, given: dict[str, Endpoint]) -> dict[str, Endpoint]:
        if taken := sorted(set(given) & _PROVIDERS):
            raise ValueError(f"{taken[0]} is a provider's name; choose another")
        return given


class Budget(Section):
    tokens: int | None = Field(None, ge=0, description="Tokens read and written, together. Unset: no limit.")
    usd: float | None = Field(None, ge=0, description="Money in US dollars, where prices are known. Unset: no limit.")


class TaskBudget(Budget):
    tokens: int | None = Field(1_000_000, ge=0, description="As above; null for no limit.")


class Budgets(Section):
    task: TaskBudget = Field(TaskBudget(), description="What one task may use, its delegations included.")
    agent_day: Budget = Field(Budget(tokens=None, usd=None), description="What one agent may use in a day.")
    swarm_day: Budget = Field(Budget(tokens=None, usd=None), description="What all agents together may use in a day.")
    warn_at: float = Field(0.8, gt=0, le=1, description="Share of a budget at which a warning is given.")
    time_zone: TimeZone = Field("UTC", description="Time zone in which a day begins, such as `Europe/Berlin`.")


class Actions(Section):
    servers: tuple[str, ...] = Field(
        (), description="Tool servers that offer actions, by name; the others only read. docs/policy.md says who may."
    )
    chat_minutes: float = Field(30.0, gt=0, le=1440, description="How long an approval waits in a chat.")
    autonomous_hours: float = Field(
        12.0, gt=0, le=168, description="How long an approval waits that an agent asks for by itself."
    )
    audit_days: float = Field(365.0, ge=1, description="Days that the audit is kept.")
    audit_key_file: Path | None = Field(
        None, description="PEM of the Ed25519 key that signs a tool server's audit. Default: made under `home`."
    )


class Kubernetes(Section):
    kubeconfig: Path | None = Field(
        None, description="Kubeconfig file. Default: `KUBECONFIG`; for a named context `~/.kube/config`."
    )
    context: str | None = Field(None, description="Kubeconfig context. Default: the file's current one.")
    in_cluster: bool = Field(False, description="Use the pod's own service account.")


def _api_url(url: str) -> str:
    """A base URL with no slash at its end. Credentials have settings of their own, which mask themselves."""
    parts = urlsplit(url)
    if url and not (parts.hostname and parts.scheme in ("http", "https")):
        raise ValueError("this must be an http or https URL")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("this must be a plain base URL; credentials have settings of their own")
    return url.rstrip("/")


ApiUrl = Annotated[str, AfterValidator(_api_url)]


class Api(Section):
    """An HTTP API that a tool server reads, and how it is shown who asks."""

    url: ApiUrl = Field("", description="Base URL, with the path prefix where there is one.")
    token: SecretStr | None = Field(None, description="Bearer token.")
    token_file: Path | None = Field(None, description="File with the bearer token; read at each request.")
    username: str = Field("", max_length=256, description="Name for basic authentication.")
    password: SecretStr | None = Field(None, description="Password for basic authentication.")
    password_file: Path | None = Field(None, description="File with that password; read at each request.")
    tenant: str = Field(
        "", pattern=r"^[!-~]{0,256}$", description="Tenant, sent as `X-Scope-OrgID` (Mimir, Cortex, Thanos, Loki)."
    )
    headers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")], SecretStr] = Field(
        {}, description="Further headers of each request, by name."
    )
    ca_file: Path | None = Field(None, description="CA of the API. Default: the CAs of this machine.")
    client_cert_file: Path | None = Field(None, description="PEM of a client certificate.")
    client_key_file: Path | None = Field(None, description="PEM of its key. Default: in the certificate's file.")

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if (self.token or self.token_file) and (self.username or self.password or self.password_file):
            raise ValueError("either a token or a name and password, not both")
        if self.client_key_file and not self.client_cert_file:
            raise ValueError("client_key_file needs client_cert_file")
        return self


class Prometheus(Api):
    """Prometheus, or what speaks its API, and its Alertmanager."""

    url: ApiUrl = Field(
        "", description="Base URL of Prometheus, VictoriaMetrics, Thanos or Mimir, with the path prefix it has."
    )
    rules_url: ApiUrl = Field(
        "", description="Where rules and alerts are asked for, if elsewhere: vmalert, a ruler. Default: `url`."
    )
    timeout_seconds: float = Field(30.0, gt=0, le=300, description="Longest wait for one answer, in seconds.")
    alertmanager: Api = Field(Api(), description="Alertmanager. With no URL its tools are not offered.")

    @property
    def configured(self) -> bool:
        return bool(self.url or self.alertmanager.url)


class Loki(Api):
    """Loki."""

    url: ApiUrl = Field("", description="Base URL of Loki, with the path prefix it has.")
    timeout_seconds: float = Field(30.0, gt=0, le=300, description="Longest wait for one answer, in seconds.")
    most_hours: float = Field(168.0, gt=0, le=8_760, description="Most hours of logs that one question may look at.")
    most_bytes: ByteSize = Field(
        ByteSize(4 * 1024**3), gt=0, description="Most bytes of logs that one question may read, such as `4GiB`."
    )

    @property
    def configured(self) -> bool:
        return bool(self.url)


_REPOSITORY = r"^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}$"
Repository = Annotated[str, Field(pattern=_REPOSITORY)]
"""A repository: `owner/name`."""


def _plain_url(url: str) -> str:
    return _vouched(url).rstrip("/")


class GitHub(Section):
    url: Annotated[str, AfterValidator(_plain_url)] = Field(
        "https://api.github.com",
        description="Base URL of the API: `https://HOST/api/v3` for GitHub Enterprise, `…/api/v1` for Gitea, Forgejo.",
    )
    kind: Literal["github", "gitea"] = Field("github", description="Whose API it is; `gitea` is Forgejo's too.")
    repositories: tuple[Repository, ...] = Field(
        (), description="Repositories, `owner/name`, in which actions are allowed. The first is the one meant by none."
    )
    token: SecretStr | None = Field(None, description="Token that it is asked with; also `GITHUB_TOKEN`.")
    token_file: Path | None = Field(None, description="File with that token; read at each request.")
    app_id: str = Field("", pattern=r"^[A-Za-z0-9.]{0,64}$", description="Id of a GitHub App, instead of a token.")
    installation_id: str = Field("", pattern=r"^[0-9]{0,20}$", description="Its installation. Default: the only one.")
    private_key: SecretStr | None = Field(None, description="PEM of its private key.")
    private_key_file: Path | None = Field(None, description="File with that key.")
    ca_file: Path | None = Field(None, description="CA of the API. Default: the CAs of this machine.")
    timeout_seconds: float = Field(30.0, gt=0, le=300, description="Longest wait for one answer, in seconds.")
    lockdown: bool = Field(
        False, description="Leave out what people without push rights wrote: descriptions, comments, reviews."
    )
    trusted_bots: tuple[str, ...] = Field(
        ("renovate[bot]", "dependabot[bot]", "github-actions[bot]"),
        description="Apps whose words are shown under lockdown.",
    )

    @property
    def configured(self) -> bool:
        return bool(self.token or self.token_file or self.app_id or os.environ.get("GITHUB_TOKEN"))


class Lab(Section):
    scenarios: Annotated[tuple[str, ...], NoDecode] = Field(
        ("oom", "image-typo"), description="What is broken in the lab cluster; empty for a healthy one."
    )
    port: int = Field(8790, ge=0, le=65535, description="Port of the lab's Kubernetes API; 0 takes a free one.")
    tick_seconds: float = Field(2.0, ge=0, description="Seconds between steps of the lab's controllers.")
    beside: Annotated[tuple[Literal["github", "loki", "prometheus"], ...], NoDecode] = Field(
        ("github", "loki", "prometheus"),
        description="What stands beside the lab's cluster; Prometheus, with Alertmanager, where both are installed.",
    )

    @field_validator("scenarios", "beside", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """In a variable, as JSON or with commas; `none` for a healthy lab."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            return json.loads(value)
        return tuple(s.strip() for s in value.split(",") if s.strip() not in ("", "none"))


def default_home() -> Path:
    """Where state lives when nothing else is said: `$XDG_STATE_HOME/opswarm`, else `~/.local/state/opswarm`."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "opswarm"


class Settings(BaseSettings):
    """All settings. Immutable once read."""

    model_config = SettingsConfigDict(
        env_prefix="OPSWARM_", env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    home: Path = Field(
        default_factory=default_home, description="Folder of keys, tokens, databases and the running swarm's state."
    )
    addresses: dict[str, str] = Field(
        {}, description="Base URL of each service and tool server, by name. Default: loopback, its own port."
    )
    toolsets: dict[str, tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")], ...]] = Field(
        {},
        description="Toolsets of a tool server that agents carry, by its name, such as `{kubernetes: [core]}`: a small "
        "model does better with few tools. Default: all; docs/tools.md has them.",
    )
    tool_servers: dict[str, tuple[str, ...]] = Field(
        {},
        description="Tool servers that an agent calls, by the agent's name, such as `{devops: [kubernetes]}` where "
        "there is no Flux. Default: for `devops` kubernetes and flux.",
    )
    database_url: str = Field(
        "", description="SQLAlchemy async URL of the task store. Default: SQLite files under `home`."
    )
    policy_file: Path | None = Field(
        None, description="The policy that tool servers enforce, see docs/policy.md. Default: `policy.yaml` in `home`."
    )
    executor: str = Field(
        "0", max_length=128, description="Stable name of this process among replicas on one database (pod ordinal)."
    )
    keep_days: float = Field(30.0, gt=0, description="Days that ended tasks and their answers are kept.")
    server: Server = Server()
    metrics: Metrics = Metrics()
    log: Log = Log()
    identity: Identity = Identity()
    control: Control = Control()
    turn: Turn = Turn()
    orchestrator: Orchestrator = Orchestrator()
    models: Models = Models()
    budgets: Budgets = Budgets()
    actions: Actions = Actions()
    kubernetes: Kubernetes = Kubernetes()
    prometheus: Prometheus = Prometheus()
    loki: Loki = Loki()
    github: GitHub = GitHub()
    lab: Lab = Lab()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=config_file())

    def address(self, name: str) -> str:
        """The base URL of a service or tool server, with no slash at its end.

        Raises `SettingsInvalid` for a name that no one knows.
        """
        if self.addresses.get(name):
            return self.addresses[name].rstrip("/")
        if name not in PORTS:
            raise SettingsInvalid(f"No address is set for '{name}'.", hint=f"Set addresses.{name}.")
        return f"http://127.0.0.1:{PORTS[name]}"

    def database(self, service: str) -> str:
        """The SQLAlchemy async URL of `service`'s tables."""
        return self.database_url or f"sqlite+aiosqlite:///{self.home / 'data' / f'{service}.db'}"

    def control_file(self) -> Path:
        """Where the pause is kept on this machine."""
        return self.control.file or self.home / "control.json"

    def updated(self, changes: Mapping[str, Any]) -> Settings:
        """A copy with some top-level fields replaced."""
        return self.model_copy(update=dict(changes))


def config_file() -> Path | None:
    named = os.environ.get("OPSWARM_CONFIG")
    path = Path(named) if named else Path("opswarm.yaml")
    if named and not path.is_file():
        raise SettingsInvalid(f"OPSWARM_CONFIG names '{named}', which is not a file.")
    return path if path.is_file() else None


def load(**overrides: Any) -> Settings:
    """Reads the settings; `overrides` win over file and environment.

    Raises `SettingsInvalid` with one sentence that names each bad field. Values are not repeated in it.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()[:5])
        raise SettingsInvalid(f"The settings can't be used: {faults}.", hint="See docs/settings.md.") from None
    except SettingsError as error:
        raise SettingsInvalid(
            f"The settings can't be read: {_blamed(error)} is not JSON.",
            hint="Lists and mappings are JSON in a variable.",
        ) from None
    except (yaml.YAMLError, OSError, UnicodeDecodeError, ValueError) as error:
        raise SettingsInvalid(f"The settings can't be read: {type(error).__name__} in {config_file()}.") from error


def _blamed(error: SettingsError) -> str:
    """The variable whose text could not be decoded; the library tells the text and the top-level field only."""
    text = getattr(error.__cause__, "doc", None)
    names = [n for n, value in os.environ.items() if n.upper().startswith("OPSWARM_") and value == text]
    return " or ".join(sorted(names)) or "a variable OPSWARM_…"


def secret(value: SecretStr | None, file: Path | None, env: str) -> str | None:
    """A secret from its field, its file or a plain environment variable (where one is named), in that order."""
    if value is not None:
        return value.get_secret_value()
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").strip() or None
        except OSError as error:
            raise SettingsInvalid(f"The secret file {file} can't be read.") from error
    return (os.environ.get(env) or None) if env else None
