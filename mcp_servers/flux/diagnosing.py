"""What is wrong with Flux and why, from a snapshot alone: each cause once, at the object where it can be mended."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mcp_servers.cluster.finding import Evidence, Finding, ObjectRef, Severity
from mcp_servers.flux.fields import Obj, Ref, ago, event_time, label, mapping, ref_of, rows, text, when, whole
from mcp_servers.flux.kinds import APPLIERS
from mcp_servers.flux.snapshot import Snapshot, chart_ref, depends_on, source_ref
from mcp_servers.flux.state import Health, State, state_of
from opswarm.mcp.text import counted

FORGOTTEN_DAYS = 7
"""For so long something may be suspended before it is said to be forgotten."""

_CHILD = re.compile(r"([A-Z][A-Za-z]+)/(?:([a-z0-9.-]+)/)?([A-Za-z0-9.:-]+) status: '(\w+)'")
"""How kstatus names what is not healthy, in a message of kustomize-controller or helm-controller."""

_WAITS = frozenset({"DependencyNotReady"})
_SOURCELESS = frozenset({"SourceNotReady", "ArtifactFailed", "HelmChartNotReady"})
_UNHEALTHY = frozenset({"HealthCheckFailed", "HealthCheckCanceled"})


@dataclass(frozen=True, slots=True)
class _Kind:
    """One sort of failure, known by what its message holds. `then` is the next step, `cause` its short name."""

    cause: str
    words: re.Pattern[str]
    title: str
    then: str


def _sort(cause: str, words: str, title: str, then: str) -> _Kind:
    return _Kind(cause, re.compile(words, re.IGNORECASE), title, then)


_SOPS = (
    _sort(
        "SopsKeyMissing",
        r"is SOPS encrypted, configuring decryption is required|decryption secret .*not found"
        r"|cannot get decryption Secret|failed to get decryption secret",
        "an encrypted file has no key to be read with",
        "Set spec.decryption of this Kustomization, and put the age or PGP key into the Secret that it names.",
    ),
    _sort(
        "SopsKeyWrong",
        r"cannot get sops data key|no identity matched|failed to decrypt|error decrypting|decryption failed",
        "its files can't be decrypted with the key that it has",
        "Encrypt the file for the key in the cluster (sops updatekeys), or put the right key into the Secret that "
        "spec.decryption names.",
    ),
)  # fmt: skip
_APPLY = (
    *_SOPS,
    _sort(
        "PathNotFound",
        r"kustomization path not found|stat .*: no such file or directory",
        "its path is not in the source",
        "Correct spec.path, or bring the folder back in Git.",
    ),
    _sort(
        "Immutable",
        r"field is immutable|immutable field",
        "it changes a field that can't be changed",
        "Delete the object so that it is made anew, or set spec.force for a while; read what that deletes first.",
    ),
    _sort(
        "NoSuchKind",
        r"no matches for kind",
        "it holds a kind that the cluster does not know",
        "Have the Kustomization with the CRDs come first (dependsOn), or correct the apiVersion.",
    ),
    _sort(
        "Forbidden",
        r"is forbidden|cannot (create|patch|get|list) resource",
        "it may not apply what it holds",
        "Give the ServiceAccount that it applies as the right, or correct spec.serviceAccountName.",
    ),
)
_SOURCE = (
    _sort(
        "AuthSecretMissing",
        r"failed to get secret|secrets? \"[^\"]+\" not found",
        "the Secret with its credentials is not there",
        "Make the Secret that spec.secretRef names, in the same namespace.",
    ),
    _sort(
        "AuthenticationFailed",
        r"authenticat|authoriz|unauthorized|denied|handshake failed|\b40[13]\b|invalid credentials|knownhosts",
        "its credentials are not accepted",
        "Renew the token or key in the Secret that spec.secretRef names; a deploy key may have been removed.",
    ),
    _sort(
        "NotFound",
        r"repository not found|reference not found|couldn't find remote ref|MANIFEST_UNKNOWN|\b404\b|no such host"
        r"|no .* matching|not found",
        "what it points at is not there",
        "Correct spec.url, spec.ref or the chart's name and version.",
    ),
    _sort(
        "Unreachable",
        r"timeout|timed out|deadline exceeded|connection refused|no route|i/o|TLS|x509|dial tcp",
        "its server can't be reached",
        "See whether the host answers from inside the cluster: DNS, network policy, certificate.",
    ),
)


@dataclass
class _Case:
    """One snapshot being looked at. `blamed` maps a broken object to the one that is why."""

    shot: Snapshot
    now: datetime
    states: Mapping[Ref, State]
    affected: dict[Ref, set[Ref]] = field(default_factory=dict)
    waiting: dict[Ref, set[Ref]] = field(default_factory=dict)


def diagnose(
    shot: Snapshot, controllers: Sequence[Obj], drifts: Sequence[Obj], now: datetime
) -> tuple[list[Finding], list[str]]:
    """Findings, the worst first, and notes. `controllers` are Flux's Deployments, `drifts` events of releases whose
    objects are no longer as the release says."""
    case = _Case(shot, now, {ref: state_of(obj, now) for ref, obj in shot.objects.items()})
    found: dict[Ref, Finding] = {}
    for ref, state in case.states.items():
        root = _root(case, ref) if _is_broken(state) else ref
        if root != ref:
            case.affected.setdefault(root, set()).add(ref)
    for ref, state in case.states.items():
        if _is_broken(state) and _root(case, ref) == ref:
            found[ref] = _broken(case, ref, state)
    for ref in case.affected:
        if ref not in found and ref in case.states:
            state = case.states[ref]
            if state.health is Health.SUSPENDED:
                found[ref] = _suspended(case, ref, state)
            else:
                case.waiting[ref] = case.affected[ref]
    for ref, state in case.states.items():
        if ref not in found and state.health is Health.SUSPENDED and _days(state.since, now) >= FORGOTTEN_DAYS:
            found[ref] = _suspended(case, ref, state)
    every = [*_controllers(controllers), *found.values(), *_artifactless(case, found), *_drifted(drifts, now, found)]
    every.sort(key=lambda f: (f.severity.rank, -len(f.affects), f.object))
    return every, [
        f"{label(ref)} is {case.states[ref].health}, and is waited for by {counted(len(waiting), 'object')}"
        for ref, waiting in case.waiting.items()
    ]


def _root(case: _Case, ref: Ref) -> Ref:
    """Where a broken object's trouble comes from: itself, or what it waits for, through any number of steps."""
    seen = [ref]
    while (cause := _because(case, seen[-1])) is not None:
        if cause in seen:
            return min(seen[seen.index(cause) :])  # A circle has no beginning: it is told of once.
        seen.append(cause)
        if not _is_broken(case.states[cause]):
            break
    return seen[-1]


def _because(case: _Case, ref: Ref) -> Ref | None:
    """The one object whose state explains this one's, if it is another."""
    obj, state = case.shot.objects[ref], case.states[ref]
    if state.reason in _WAITS:
        return next((d for d in depends_on(obj) if d in case.states and not _is_well(case.states[d])), None)
    if state.reason in _SOURCELESS or ref[0] == "HelmChart":
        return next((s for s in _sources(obj) if s in case.states and not _is_well(case.states[s])), None)
    if state.reason in _UNHEALTHY or ref[0] == "HelmRelease":
        children = [(k, ns, name) for k, ns, name, _ in _children(state.message)]
        return next((c for c in children if c in case.states and _is_broken(case.states[c])), None)
    return None


def _is_broken(state: State) -> bool:
    """Also what failed and is being tried again: a Kustomization is only between two tries for most of the time."""
    return state.health.broken or (bool(state.retried) and state.health is not Health.SUSPENDED)


def _is_well(state: State) -> bool:
    """Whether what waits for it may go on: what is suspended keeps the condition that it had."""
    return state.under in (Health.READY, Health.STATIC) and state.health is not Health.DELETING


def _sources(obj: Obj) -> Iterator[Ref]:
    chart = chart_ref(obj) if text(obj, "kind") == "HelmRelease" else None
    yield from (ref for ref in (chart, source_ref(obj)) if ref)


def _children(message: str) -> list[tuple[str, str, str, str]]:
    return [(m[1], m[2] or "", m[3], m[4]) for m in _CHILD.finditer(message[:16_384])]


def _broken(case: _Case, ref: Ref, state: State) -> Finding:
    """What is broken by itself."""
    obj = case.shot.objects[ref]
    cause, title, then = _told(case, obj, ref, state)
    evidence = [
        Evidence(f"Ready {state.reason or '?'} {ago(state.since, case.now)} ago", state.message or "(no message)")
    ]
    if state.attempted:
        evidence.append(Evidence("revision", f"tried {state.attempted}, has {state.revision or 'nothing'}"))
    fed = _fed(case, ref)
    severity = Severity.MEDIUM
    if case.affected.get(ref) or (ref[0] in _FEEDS and fed):
        severity = Severity.HIGH
    elif ref[0] in APPLIERS:
        severity = Severity.HIGH if state.health is Health.STALLED or not state.revision else Severity.MEDIUM
    why = {
        True: f"{counted(len(case.affected.get(ref, ())), 'other object')} can't go on because of it",
        False: "what is in Git is not what is in the cluster" if ref[0] in APPLIERS else "nothing new comes from it",
    }[bool(case.affected.get(ref))]
    affects = sorted(case.affected.get(ref, set()) | (fed if ref[0] in _FEEDS else set()))
    return Finding(
        _object(ref), severity, why, cause, title, tuple(evidence), then, tuple(_object(a) for a in affects)
    )  # fmt: skip


_FEEDS = frozenset({"GitRepository", "OCIRepository", "Bucket", "HelmRepository", "HelmChart", "ExternalArtifact"})


def _fed(case: _Case, ref: Ref) -> set[Ref]:
    """What takes its files or chart from a source."""
    return {one for one, obj in case.shot.objects.items() if one[0] in APPLIERS and ref in _sources(obj)}


def _told(case: _Case, obj: Obj, ref: Ref, state: State) -> tuple[str, str, str]:
    """Cause, title and next step."""
    if state.retried:
        title = "it fails and is tried again" if state.retried not in _UNHEALTHY else "what it applied is not healthy"
        return state.retried, title, _look_at(ref)
    if state.health is Health.STUCK:
        return "Stuck", f"it has been reconciling for {ago(state.since, case.now)}, past its own timeout", _look_at(ref)
    if state.reason in _WAITS:
        return _dependency(case, obj, ref)
    if ref[0] in _FEEDS:
        known = _known(_SOURCE, state.message)
        return known or (state.reason or "SourceFailed", "its source can't be fetched", _look_at(ref))
    if state.reason in _SOURCELESS and (known := _known(_APPLY, state.message)):
        return known
    if state.reason in _SOURCELESS:
        return _source(case, obj)
    if children := _children(state.message):
        return _child(children)
    if known := _known(_APPLY, state.message):
        return known
    if ref[0] == "HelmRelease":
        return _release(obj, state)
    if state.reason == "BuildFailed":
        return "BuildFailed", "its files can't be built", (
            "Run `kustomize build` on its path; mend the file that the message names, in Git."
        )  # fmt: skip
    if state.reason in _UNHEALTHY:
        return "HealthCheckFailed", "what it applied does not become healthy", _look_at(ref, "flux_tree")
    return state.reason or "Failing", "it can't be reconciled", _look_at(ref)


def _known(sorts: Iterable[_Kind], message: str) -> tuple[str, str, str] | None:
    return next(((s.cause, s.title, s.then) for s in sorts if s.words.search(message[:16_384])), None)


def _look_at(ref: Ref, tool: str = "flux_get") -> str:
    kind, namespace, name = ref
    return f"{tool}(kind={kind}, name={name}, namespace={namespace}) shows its conditions and events."


def _dependency(case: _Case, obj: Obj, ref: Ref) -> tuple[str, str, str]:
    lost = [d for d in depends_on(obj) if d not in case.states]
    if lost and ref[0] not in case.shot.failed:
        return "DependencyMissing", f"it waits for {label(lost[0])}, which is not there", (
            "Correct spec.dependsOn, or bring back what it names."
        )  # fmt: skip
    if _is_in_circle(case, ref):
        return "DependencyCycle", "it waits for what waits for it: none of them can ever begin", (
            "Take one of the dependsOn out, in Git."
        )  # fmt: skip
    return "DependencyNotReady", "what it waits for is not ready", _look_at(ref, "flux_tree")


def _is_in_circle(case: _Case, ref: Ref) -> bool:
    seen: set[Ref] = set()
    waiting = [ref]
    while waiting:
        for one in depends_on(case.shot.objects[waiting.pop()]):
            if one == ref:
                return True
            if one in case.shot.objects and one not in seen:
                seen.add(one)
                waiting.append(one)
    return False


def _source(case: _Case, obj: Obj) -> tuple[str, str, str]:
    source = source_ref(obj)
    if source and source not in case.states and source[0] not in case.shot.failed:
        return "SourceMissing", f"its source {label(source)} is not there", (
            "Correct spec.sourceRef or chartRef, or bring the source back."
        )  # fmt: skip
    if source and source in case.states:
        return "ArtifactMissing", f"its source {label(source)} has nothing to take for it", _look_at(source)
    return "SourceNotReady", "its source is not ready", "flux_list(state=failing) shows sources that fail."


def _child(children: Sequence[tuple[str, str, str, str]]) -> tuple[str, str, str]:
    kind, namespace, name, status = children[0]
    more = f" and {len(children) - 1} more" if len(children) > 1 else ""
    where = f"{namespace}/{name}" if namespace else name
    return "HealthCheckFailed", f"{kind} {where} is {status}{more}: it does not become healthy", (
        f"diagnose(kind={kind}, name={name}{f', namespace={namespace}' if namespace else ''}) of the kubernetes "
        "server says why."
    )  # fmt: skip


def _release(obj: Obj, state: State) -> tuple[str, str, str]:
    name = text(obj, "metadata", "name")
    then = f"Mend values or chart in Git; the message and the events of {name} say what Helm refused."
    if state.health is Health.STALLED:
        failures = max(whole(obj, "status", kind) for kind in ("installFailures", "upgradeFailures", "failures"))
        tries = f" after {counted(failures, 'try').replace('trys', 'tries')}" if failures else ""
        last = next(iter(rows(obj, "status", "history")), {})
        at = f"; {text(last, 'chartVersion')} is {text(last, 'status')}" if text(last, "chartVersion") else ""
        return "RetriesExhausted", f"Helm has given up{tries}{at}", (
            f"{then} It is tried again only when something changes, or with a reset reconcile."
        )  # fmt: skip
    if "timeout" in state.message or "deadline exceeded" in state.message:
        return "HelmTimeout", "what the chart made did not become ready in time", (
            "diagnose of the kubernetes server on the release's namespace says what does not."
        )  # fmt: skip
    return state.reason or "HelmFailed", "Helm can't install or upgrade it", then


def _suspended(case: _Case, ref: Ref, state: State) -> Finding:
    held = case.affected.get(ref, set())
    days = _days(state.since, case.now)
    severity = Severity.HIGH if held else Severity.LOW
    why = (
        f"{counted(len(held), 'other object')} can't go on because of it" if held else "what changes in Git is ignored"
    )
    evidence = Evidence("spec.suspend", f"true since {state.since or '?'}; before that it was {state.under}")
    title = f"it has been suspended for {ago(state.since, case.now)}" if days >= 0 else "it is suspended"
    return Finding(
        _object(ref), severity, why, "Suspended", title, (evidence,), "Resume it, or say in Git why it is suspended.",
        tuple(_object(a) for a in sorted(held)),
    )  # fmt: skip


def _artifactless(case: _Case, found: Mapping[Ref, Finding]) -> Iterator[Finding]:
    """Sources that say they are ready and have nothing: their storage was lost."""
    for ref, state in case.states.items():
        obj = case.shot.objects[ref]
        if (
            ref in found
            or ref[0] not in _FEEDS
            or state.health is not Health.READY
            or mapping(obj, "status", "artifact")
        ):
            continue
        fed = sorted(_fed(case, ref))
        yield Finding(
            _object(ref), Severity.HIGH if fed else Severity.MEDIUM, "nothing can be taken from it", "ArtifactMissing",
            "it is ready and has no artifact", (Evidence("status.artifact", "absent"),),
            "Reconcile it; if that does not help, look at source-controller's storage.",
            tuple(_object(a) for a in fed),
        )  # fmt: skip


def _controllers(controllers: Sequence[Obj]) -> Iterator[Finding]:
    for one in controllers:
        want = mapping(one, "spec").get("replicas", 1)
        ready = whole(one, "status", "readyReplicas")
        if isinstance(want, int) and (ready < want or want == 0):
            why = "it is scaled to 0" if want == 0 else f"{ready} of {want} replicas are ready"
            yield Finding(
                _object(("Deployment", *ref_of(one)[1:])), Severity.CRITICAL,
                "what this controller looks after stands still", "ControllerDown", why,
                (Evidence("status.readyReplicas", f"{ready} of {want}"),),
                "diagnose of the kubernetes server on this Deployment says why.",
            )  # fmt: skip


def _drifted(drifts: Sequence[Obj], now: datetime, found: Mapping[Ref, Finding]) -> Iterator[Finding]:
    newest: dict[Ref, Obj] = {}
    for event in drifts:
        about = mapping(event, "involvedObject")
        ref = (text(about, "kind"), text(about, "namespace"), text(about, "name"))
        if ref not in newest or event_time(event) >= event_time(newest[ref]):
            newest[ref] = event
    for ref, event in newest.items():
        if ref not in found:
            yield Finding(
                _object(ref), Severity.MEDIUM, "somebody changes by hand what Git says", "Drift",
                "what is in the cluster is not what the release says",
                (Evidence(f"event {text(event, 'reason')} {ago(event_time(event), now)} ago", text(event, "message")),),
                "Bring the change into Git, or set spec.driftDetection.mode to enabled to have it put back.",
            )  # fmt: skip


def _days(since: str, now: datetime) -> float:
    began = when(since)
    return (now - began).total_seconds() / 86_400 if began else -1.0


def _object(ref: Ref) -> ObjectRef:
    return ObjectRef(*ref)
