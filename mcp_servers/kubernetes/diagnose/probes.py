"""Containers that run but are not ready."""

from __future__ import annotations

from datetime import datetime

from mcp_servers.cluster.finding import Evidence, Finding, LogSource
from mcp_servers.kubernetes.diagnose.events import Event
from mcp_servers.kubernetes.diagnose.fields import Obj, condition, mapping, name_of, number, text
from mcp_servers.kubernetes.diagnose.impact import at_root
from mcp_servers.kubernetes.diagnose.podstate import (
    GRACE,
    Container,
    age,
    containers,
    down_node,
    is_finished,
    is_ready,
    is_terminating,
    lived,
    since,
    unready_for,
)
from mcp_servers.kubernetes.diagnose.snapshot import Snapshot, ref_of
from mcp_servers.kubernetes.rendering import duration

_FRESH = 1800.0


def failing_probes(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Pods whose running containers do not become ready, once the time to start is over."""
    found: list[Finding] = []
    for pod in snapshot.kind("Pod"):
        if (
            is_finished(pod)
            or is_terminating(pod)
            or is_ready(pod)
            or text(pod, "status", "phase") != "Running"
        ):
            continue
        main = [c for c in containers(pod) if not c.init or c.sidecar]
        unready = [c for c in main if c.running and _unready(c) and _overdue(c, pod, now)]
        if unready:
            found.append(_finding(snapshot, pod, unready[0], now))
        elif all(c.running and c.ready for c in main) and lived(snapshot, pod, now) > GRACE:
            found.append(_gate(snapshot, pod, now))
    return found


def is_starting(pod: Obj, now: datetime) -> bool:
    """Whether the pod is not ready and still has time to become so: its grace, or what its probes give it."""
    if unready_for(pod, now) <= GRACE:
        return True
    return any(
        c.running and _unready(c) and not _overdue(c, pod, now)
        for c in containers(pod)
        if not c.init or c.sidecar
    )


def _unready(container: Container) -> bool:
    if container.sidecar:
        return container.status.get("started") is False
    return not container.ready


def _budget(container: Container) -> float:
    """Seconds that the probes give the program to start."""
    startup = mapping(container.spec, "startupProbe")
    seconds = 0.0
    if startup:
        tries = number(startup, "failureThreshold", default=3) * number(startup, "periodSeconds", default=10)
        seconds = number(startup, "initialDelaySeconds") + tries
    return max(GRACE, seconds + number(container.spec, "readinessProbe", "initialDelaySeconds") + 30)


def _overdue(container: Container, pod: Obj, now: datetime) -> bool:
    started = container.started_at
    running = (now - started).total_seconds() if started else age(pod, now)
    unready = since(text(condition(pod, "Ready"), "lastTransitionTime"), now)
    return running > _budget(container) and (unready is None or unready > GRACE / 2)


def _kind(event: Event | None, container: Container) -> str:
    """Which probe fails: what the event says, else the one that has not passed yet."""
    message = event.message.lower() if event else ""
    for kind in ("startup", "liveness", "readiness"):
        if message.startswith(f"{kind} probe"):
            return kind
    waits = container.status.get("started") is False and container.spec.get("startupProbe")
    return "startup" if waits else "readiness"


def _finding(snapshot: Snapshot, pod: Obj, container: Container, now: datetime) -> Finding:
    unhealthy = [
        event
        for event in snapshot.recent(pod, now, _FRESH, "Unhealthy", "ProbeWarning")
        if event.container in ("", container.name)
    ]
    kind = _kind(unhealthy[0] if unhealthy else None, container)
    probe = mapping(container.spec, f"{kind}Probe")
    evidence = [event.evidence(now) for event in unhealthy[:2]]
    if probe:
        evidence.append(Evidence(f"{container.label} {kind} probe", _spelt(probe)))
    ready = condition(pod, "Ready")
    lasted = since(text(ready, "lastTransitionTime"), now)
    told = f"Ready is {text(ready, 'status') or 'not set'}" + (f" for {duration(lasted)}" if lasted else "")
    evidence.append(Evidence(f"pod {name_of(pod)}", f"{told}. {text(ready, 'message')}"))
    node = down_node(snapshot, pod)
    known = bool(unhealthy) and bool(probe)
    title = (
        f"{container.label} runs, but its {kind} probe fails" if known else f"{container.label} is not ready"
    )
    return at_root(
        snapshot,
        pod,
        f"{kind.title()}ProbeFailed" if known else "NotReady",
        title,
        evidence,
        f"Compare the {kind} probe (path, port, timing) with what the program answers; read its log.",
        suspects=(ref_of(node),) if node is not None else (),
        symptom=not known,
        logs=LogSource(text(pod, "metadata", "namespace"), name_of(pod), container.name, previous=False),
    )


def _spelt(probe: Obj) -> str:
    """The probe as one line: `http-get :8096/healthz, every 10s, timeout 1s, fails after 3`."""
    if http := mapping(probe, "httpGet"):
        what = f"http-get :{text(http, 'port')}{text(http, 'path') or '/'}"
    elif tcp := mapping(probe, "tcpSocket"):
        what = f"tcp-socket :{text(tcp, 'port')}"
    elif grpc := mapping(probe, "grpc"):
        what = f"grpc :{text(grpc, 'port')}"
    else:
        command = mapping(probe, "exec").get("command")
        what = "exec " + " ".join(map(str, command if isinstance(command, list) else ()))
    every, timeout = number(probe, "periodSeconds", default=10), number(probe, "timeoutSeconds", default=1)
    failures = number(probe, "failureThreshold", default=3)
    return f"{what}, every {every}s, timeout {timeout}s, fails after {failures}"


def _gate(snapshot: Snapshot, pod: Obj, now: datetime) -> Finding:
    """All containers are ready and the pod is not: a readiness gate, or a node that stopped reporting."""
    ready = condition(pod, "Ready")
    node = down_node(snapshot, pod)
    gated = text(ready, "reason") == "ReadinessGatesNotReady"
    told = f"Ready is {text(ready, 'status') or 'not set'}, {text(ready, 'reason')}: {text(ready, 'message')}"
    return at_root(
        snapshot,
        pod,
        "ReadinessGatesNotReady" if gated else "NotReady",
        "a readiness gate of its pods is not met"
        if gated
        else "its containers are ready, but the pod is not",
        [Evidence(f"pod {name_of(pod)}", told)],
        "Find the controller that sets the condition the message names, and why it does not.",
        suspects=(ref_of(node),) if node is not None else (),
        symptom=not gated,
    )
