"""Which streams are meant: a query's selectors, the labels that a shipper of logs uses, and why nothing matched."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mcp_servers.loki.api import LokiApi, Stats
from mcp_servers.observing import times
from mcp_servers.observing.matchers import Matcher, from_filter
from mcp_servers.observing.selectors import literal
from opswarm.errors import InvalidInput, NotFound, OpswarmError
from opswarm.mcp.text import one_line

NAMESPACE = (
    "namespace",
    "k8s_namespace_name",
    "kubernetes_namespace_name",
    "kubernetes_namespace",
    "exported_namespace",
)
POD = ("pod", "k8s_pod_name", "kubernetes_pod_name", "pod_name", "instance")
CONTAINER = ("container", "k8s_container_name", "kubernetes_container_name", "container_name")
APP = ("app", "app_kubernetes_io_name", "service_name", "k8s_deployment_name", "job", "component")
"""By what a label tells, the names that it has: of Promtail and Alloy, of OTLP, of Fluent Bit and of Vector."""

_STRINGS = re.compile(r"\"(?:[^\"\\]|\\.)*\"|`[^`]*`|#[^\n]*", re.DOTALL)
_RANGE = re.compile(r"\[\s*((?:\d{1,12}(?:ms|[smhdwy]))+)\s*\]")
_OFFSET = re.compile(r"\boffset\s+((?:\d{1,12}(?:ms|[smhdwy]))+)")
_SAFE = "bcdfghjklmnpqrstvwxz2456789"
"""The letters of the random part of a pod's name, as Kubernetes chooses them."""

_MOST_NAMED = 6


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of one Loki that say what of Kubernetes a line is from; "" where there is none."""

    namespace: str
    pod: str
    container: str
    app: str


def selectors(query: str) -> list[str]:
    """The stream selectors of a LogQL query, as they stand in it."""
    masked = _STRINGS.sub(lambda m: " " * len(m[0]), query)
    found, start = [], -1
    for at, char in enumerate(masked):
        if char == "{" and start < 0:
            start = at
        elif char == "}" and start >= 0:
            found.append(query[start : at + 1])
            start = -1
    return found


def reach(query: str) -> float:
    """How many seconds before its window a query looks: the longest range of a vector, and the longest offset."""
    masked = _STRINGS.sub(" ", query)
    ranges = [times.duration(d, "query") for d in _RANGE.findall(masked)]
    offsets = [times.duration(d, "query") for d in _OFFSET.findall(masked)]
    return max(ranges, default=0.0) + max(offsets, default=0.0)


def matchers(selector: str) -> tuple[Matcher, ...]:
    """The conditions of a stream selector. Raises `InvalidInput`."""
    # Backquotes are LogQL's raw strings, which Alertmanager's matchers do not have.
    plain = re.sub(r"`([^`]*)`", lambda m: '"' + m[1].replace("\\", "\\\\").replace('"', '\\"') + '"', selector)
    return from_filter(plain, "query")


def selector(conditions: Sequence[Matcher]) -> str:
    return "{" + ", ".join(str(m) for m in conditions) + "}"


def of_pods(workload: str) -> str:
    """What the pods of a workload are called (RE2): its name, and what controllers put behind it."""
    return (
        f"{literal(workload)}(-[0-9]+|-[{_SAFE}]{{5}}|-[a-z0-9]{{1,10}}-[{_SAFE}]{{5}}|-[0-9]{{8,10}}-[{_SAFE}]{{5}})?"
    )


async def labels_of_kubernetes(api: LokiApi, start: int, end: int) -> Labels:
    """Raises `NotFound` where no label says which namespace a line is from."""
    known = set(await api.labels(start, end))
    namespace, pod, container, app = (_first(names, known) for names in (NAMESPACE, POD, CONTAINER, APP))
    if not namespace:
        listed = one_line(", ".join(sorted(known)[:20])) or "none at all"
        raise NotFound(
            f"No label of {api.name} tells the namespace; there are: {listed}.",
            hint="Query by another label with logs_query. With no label at all nothing was shipped in that time.",
        )
    return Labels(namespace, pod, container, app)


async def streams_of(
    api: LokiApi, labels: Labels, namespace: str, workload: str, container: str, start: int, end: int
) -> list[Matcher]:
    """The conditions on the streams of a workload, or of a whole namespace. Raises `NotFound`, with what is near."""
    conditions = [Matcher(labels.namespace, "=", namespace)]
    if container:
        if not labels.container:
            raise NotFound(f"No label of {api.name} tells the container.", hint="Leave container out.")
        conditions.append(Matcher(labels.container, "=", container))
    if not workload:
        return conditions
    pods = Matcher(labels.pod, "=~", of_pods(workload)) if labels.pod else None
    near: set[str] = set()
    for name, chosen in ((labels.pod, pods), (labels.app, Matcher(labels.app, "=", workload))):
        if not name or chosen is None:
            continue
        values = await api.values(name, start, end, selector(conditions))
        if any(chosen.matches({name: v}) for v in values):
            return [*conditions, chosen]
        near |= set(values)
    await _there(api, conditions, start, end)
    named = difflib.get_close_matches(workload, sorted(near), n=_MOST_NAMED, cutoff=0.3) or sorted(near)[:_MOST_NAMED]
    raise NotFound(
        f"Nothing of '{workload}' in the namespace {namespace} was logged in that time.",
        hint=f"There are lines of: {one_line(', '.join(named))}." if named else "Look further back with since.",
    )


async def _there(api: LokiApi, conditions: Sequence[Matcher], start: int, end: int) -> None:
    """Raises `NotFound` for the first condition that no stream fulfils."""
    for condition in conditions:
        if told := await _unmatched(api, condition, start, end):
            raise NotFound(f"{told}.", hint="logs_labels lists what there is.")


async def why_nothing(api: LokiApi, query: str, start: int, end: int) -> str:
    """Why a query gave no line, as far as the index can tell: one sentence."""
    found = selectors(query)
    if len(found) != 1:
        return "The query has several selectors; try each by itself."
    try:
        conditions = matchers(found[0])
        for condition in conditions:
            if told := await _unmatched(api, condition, start, end):
                return f"{told}; logs_labels lists what there is."
        stats = await known_stats(api, found[0], start, end)
    except OpswarmError as error:
        return f"Why can't be told: {error.message}"
    if stats is None:
        return "Each label has that value somewhere; whether a stream has all of them is not known."
    if not stats.streams:
        return "Each label has that value, but no stream has all of them in that time."
    return (
        f"{stats.streams} streams match, with {stats.entries} lines in that time; the filters behind the selector "
        "leave none."
    )


async def known_stats(api: LokiApi, match: str, start: int, end: int) -> Stats | None:
    """What the index tells; None where this Loki tells nothing."""
    try:
        return await api.stats(match, start, end)
    except NotFound:
        return None


async def _unmatched(api: LokiApi, condition: Matcher, start: int, end: int) -> str:
    """What is wrong with a condition that no stream fulfils, or "". What is true without the label says nothing."""
    if condition.matches({}):
        return ""
    values = await api.values(condition.name, start, end)
    if any(condition.matches({condition.name: v}) for v in values):
        return ""
    if not values:
        return f"No stream has the label {one_line(condition.name)} in that time"
    near = difflib.get_close_matches(condition.value, values, n=_MOST_NAMED, cutoff=0.5) or values[:_MOST_NAMED]
    return f"No stream has {one_line(str(condition))} in that time; there are {one_line(', '.join(near))}"


def _first(names: Sequence[str], known: set[str]) -> str:
    return next((n for n in names if n in known), "")


def only_selector(text: str, field: str) -> str:
    """A caller's selector, whole and alone. Raises `InvalidInput` for what is more, less or none."""
    plain = text.strip()
    if selectors(plain) != [plain]:
        raise InvalidInput(f"{field} must be one stream selector.", hint='Write it like {namespace="media", app="x"}.')
    if not any(not m.matches({}) for m in matchers(plain)):
        raise InvalidInput(f"{field} matches every stream.", hint="Name one label by its value.")
    return plain
