"""Reading objects of the API, which may lack any field: values, conditions, times, and words that may be shown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import yaml

from mcp_servers.cluster.finding import one_line
from mcp_servers.cluster.masking import MASK, shown
from opswarm.guard.untrusted import clean
from opswarm.mcp.text import duration

Obj: TypeAlias = Mapping[str, Any]
Ref: TypeAlias = tuple[str, str, str]
"""Kind, namespace and name."""

_NOTHING: Obj = {}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SECRET = re.compile(
    r"(pass(word|wd|phrase)?|secret|token|credential|(api|private|access|auth|encryption|signing)[_-]?key|pwd|dsn)$",
    re.IGNORECASE,
)
_HASH = re.compile(r"(sha1|sha256|sha512):([0-9a-f]{8})[0-9a-f]+")


def at(obj: Any, *path: str) -> Any:
    """The value at `path`, None where the path ends early."""
    for key in path:
        if not isinstance(obj, Mapping):
            return None
        obj = obj.get(key)
    return obj


def text(obj: Any, *path: str) -> str:
    value = at(obj, *path)
    return "" if value is None or isinstance(value, (Mapping, list)) else str(value)


def rows(obj: Any, *path: str) -> list[Obj]:
    """The list of objects at `path`."""
    value = at(obj, *path)
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def whole(obj: Any, *path: str) -> int:
    """The number at `path`, 0 where there is none."""
    value = at(obj, *path)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def mapping(obj: Any, *path: str) -> Obj:
    value = at(obj, *path)
    return value if isinstance(value, Mapping) else _NOTHING


def name_of(obj: Any) -> str:
    return text(obj, "metadata", "name")


def namespace_of(obj: Any) -> str:
    return text(obj, "metadata", "namespace")


def ref_of(obj: Any) -> Ref:
    return text(obj, "kind"), namespace_of(obj), name_of(obj)


def label(ref: Ref) -> str:
    """`Kustomization flux-system/apps`, on one line."""
    kind, namespace, name = ref
    return one_line(f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}")


def condition(obj: Any, kind: str) -> Obj:
    """The status condition of this type, empty when there is none."""
    return next((row for row in rows(obj, "status", "conditions") if row.get("type") == kind), _NOTHING)


def is_true(obj: Any, kind: str) -> bool:
    return condition(obj, kind).get("status") == "True"


def when(timestamp: str) -> datetime | None:
    """The instant of an RFC 3339 timestamp; None for anything else."""
    try:
        found = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def ago(timestamp: str, now: datetime) -> str:
    """How long ago, as kubectl writes it; "?" when there is no time."""
    found = when(timestamp)
    return duration((now - found).total_seconds()) if found else "?"


def seconds_of(value: str, default: float) -> float:
    """A Go duration such as `1m30s`, in seconds; `default` for what is none."""
    parts = _DURATION.findall(value)
    if not parts or "".join(n + u for n, u in parts) != value:
        return default
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def managed_at(obj: Any, *path: str) -> str:
    """When the field at `path` was last written by the manager that owns it, as managedFields tell; "" if unknown."""
    found = ""
    for entry in rows(obj, "metadata", "managedFields"):
        if at(entry, "fieldsV1", *(f"f:{key}" for key in path)) is not None:
            found = max(found, text(entry, "time"))
    return found


def changed_at(obj: Any) -> str:
    """When something but the status was last written, as managedFields tell; else when the object was made."""
    written = [text(e, "time") for e in rows(obj, "metadata", "managedFields") if not e.get("subresource")]
    return max([*written, text(obj, "metadata", "creationTimestamp")])


def event_time(event: Obj) -> str:
    """When an event was last seen."""
    return (
        text(event, "series", "lastObservedTime")
        or text(event, "lastTimestamp")
        or text(event, "eventTime")
        or text(event, "metadata", "creationTimestamp")
    )


def short(revision: str) -> str:
    """A revision with its hash cut to eight digits: `main@sha1:5b1c7f0d`."""
    return one_line(_HASH.sub(r"\1:\2", revision))


def address(url: str) -> str:
    """A URL without the user and password that it may carry, and without its query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    user, at_sign, host = parts.netloc.rpartition("@")
    kept = f"{user}@{host}" if at_sign and ":" not in user and parts.scheme == "ssh" else host
    return one_line(urlunsplit((parts.scheme, kept, parts.path, "", "")), 200)


def host(url: str) -> str:
    """Only scheme and host: what chat services put into the path of a webhook is its secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    return one_line(f"{parts.scheme}://{parts.hostname}" if parts.hostname else "", 120)


def safe(obj: Obj) -> dict[str, Any]:
    """A copy of a Flux object that may be shown: besides what `shown` masks, the values of a chart or a substitution
    whose name says that they are secret, and addresses of webhooks."""
    copy = shown(obj)
    spec = copy.get("spec")
    if isinstance(spec, dict):
        for path in (("values",), ("postBuild", "substitute")):
            _mask(at(spec, *path))
        for key in ("url", "address", "proxy", "endpoint"):
            if isinstance(spec.get(key), str) and "://" in spec[key]:
                spec[key] = host(spec[key]) if copy.get("kind") == "Provider" else address(spec[key])
    status = copy.get("status")
    if isinstance(status, dict) and status.get("webhookPath"):
        status["webhookPath"] = MASK
    return copy


def _mask(node: Any) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if _SECRET.search(str(key)) and isinstance(value, (str, int, float)) and value != "":
                node[key] = MASK
            elif isinstance(value, str) and "://" in value and "@" in value:
                node[key] = address(value)
            else:
                _mask(value)
    elif isinstance(node, list):
        for value in node:
            _mask(value)


def to_yaml(value: Obj) -> str:
    return clean(str(yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, width=110)))


def inventory(obj: Any) -> Iterator[tuple[Ref, str]]:
    """What a Kustomization or HelmRelease applied: each object, and its API group.

    An entry's id is `namespace_name_group_kind`; a colon in a name is written as two underscores.
    """
    for entry in rows(obj, "status", "inventory", "entries"):
        namespace, _, rest = text(entry, "id").partition("_")
        rest, _, kind = rest.rpartition("_")
        name, _, group = rest.rpartition("_")
        if kind and name:
            yield (kind, namespace, name.replace("__", ":")), group
