"""Containers that end when they should run: out of memory, error exits, commands that can't start."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from mcp_servers.cluster.finding import Evidence, Finding, LogSource, Severity
from mcp_servers.kubernetes.diagnose.events import Event
from mcp_servers.kubernetes.diagnose.fields import Obj, at, condition, name_of, namespace_of, number, text
from mcp_servers.kubernetes.diagnose.impact import at_root
from mcp_servers.kubernetes.diagnose.podstate import Container, containers, is_finished, is_terminating, since
from mcp_servers.kubernetes.diagnose.snapshot import Snapshot
from mcp_servers.kubernetes.rendering import duration, parse_time

RECENT = 3600.0
"""Seconds after which a restart of a container that runs again is history."""
_MANY = 3
_START_ERRORS = frozenset({"StartError", "ContainerCannotRun", "RunContainerError", "CreateContainerError"})


@dataclass(frozen=True, slots=True)
class Exit:
    """What an exit says: a machine reason, a phrase for a title, and the next step."""

    cause: str
    phrase: str
    next_step: str


_READ_LOG = "Read the previous log of the container and correct what it complains about."
EXIT_CODES = {
    0: Exit(
        "CompletedTooSoon",
        "exits with code 0 (success) although it should keep running",
        "Give it a command that stays in the foreground, or make it a Job.",
    ),
    1: Exit("CrashLoopBackOff", "exits with code 1 (the program reports an error)", _READ_LOG),
    2: Exit(
        "CrashLoopBackOff",
        "exits with code 2 (wrong usage or a shell error)",
        "Check its command and arguments.",
    ),
    126: Exit(
        "CommandNotExecutable",
        "exits with code 126 (the command is there but can't be executed)",
        "Check the permissions and the format of the command in the image.",
    ),
    127: Exit(
        "CommandNotFound",
        "exits with code 127 (command not found)",
        "Correct the command, or use an image that contains it.",
    ),
    134: Exit("Aborted", "exits with code 134 (SIGABRT: the program aborted itself)", _READ_LOG),
    137: Exit(
        "Killed",
        "exits with code 137 (SIGKILL from outside, not reported as out of memory)",
        "Look for a failed liveness probe, a node short of memory, or a stop that outlasted its grace time.",
    ),
    139: Exit(
        "SegmentationFault",
        "exits with code 139 (SIGSEGV: the program crashed in memory)",
        "Try another version of the image; check that it fits the node's CPU.",
    ),
    143: Exit(
        "Terminated",
        "exits with code 143 (SIGTERM: it was asked to stop)",
        "Find who stops it: a failed liveness probe, an eviction, or a process manager inside.",
    ),
}
EXEC_FORMAT = Exit(
    "ExecFormatError",
    "can't be executed on this node (exec format error: built for another CPU architecture)",
    "Use an image built for the node's architecture, or select nodes by their kubernetes.io/arch label.",
)
_START_MESSAGES = (
    (re.compile(r"exec format error", re.I), EXEC_FORMAT),
    (
        re.compile(r"executable file not found|no such file or directory", re.I),
        Exit(
            "CommandNotFound",
            "can't start: its command is not in the image",
            "Correct the command, or use an image that contains it.",
        ),
    ),
    (
        re.compile(r"permission denied|operation not permitted", re.I),
        Exit(
            "CommandNotExecutable",
            "can't start: its command may not be executed",
            "Check the file's mode in the image, and the pod's security context.",
        ),
    ),
)


def explain_start(message: str) -> Exit | None:
    """What a runtime's message about a container that could not be started says."""
    return next((exit_ for pattern, exit_ in _START_MESSAGES if pattern.search(message)), None)


def memory_limit(container: Container) -> str:
    return text(at(container.spec, "resources", "limits"), "memory")


def explain(container: Container) -> Exit:
    """What the container's last termination says."""
    last = container.last_exit
    reason, code, message = text(last, "reason"), number(last, "exitCode", default=-1), text(last, "message")
    if reason == "OOMKilled":
        return _out_of_memory(memory_limit(container))
    if found := explain_start(message) if reason in _START_ERRORS or "exec format error" in message else None:
        return found
    if reason in _START_ERRORS:
        return Exit(
            "StartError", "can't be started by the runtime", "Check its command, mounts and security context."
        )
    if code in EXIT_CODES:
        return EXIT_CODES[code]
    if 128 < code < 160:
        return Exit("CrashLoopBackOff", f"exits with code {code} (ended by signal {code - 128})", _READ_LOG)
    return Exit("CrashLoopBackOff", f"exits with code {code}" if code >= 0 else "keeps ending", _READ_LOG)


def _out_of_memory(limit: str) -> Exit:
    if limit:
        return Exit(
            "OOMKilled",
            f"is killed for using more memory than its limit of {limit} (OOMKilled)",
            f"Raise the memory limit above {limit}, or make the program use less.",
        )
    return Exit(
        "OOMKilled",
        "is killed because the node ran out of memory (OOMKilled, the container has no memory limit)",
        "Give it a memory request and limit, and look for what fills the node's memory.",
    )


def exit_evidence(container: Container, now: datetime) -> list[Evidence]:
    """The last termination in one line, and its message in another."""
    last = container.last_exit
    if not last:
        return []
    facts = [text(last, "reason") or "ended", f"code {number(last, 'exitCode')}"]
    if text(last, "reason") == "OOMKilled" or number(last, "exitCode") == 137:
        facts.append(f"memory limit {memory_limit(container) or 'none'}")
    if (ago := since(text(last, "finishedAt"), now)) is not None:
        facts.append(f"{duration(ago)} ago")
    facts.append(f"{container.restarts} restarts")
    lines = [Evidence(f"{container.label} last exit", ", ".join(facts))]
    if message := text(last, "message"):
        lines.append(Evidence(f"{container.label} termination message", message))
    return lines


def log_source(pod: Obj, container: Container) -> LogSource:
    """The log of the run that ended: the previous one, unless the container still stands ended."""
    ended = bool(at(container.status, "state", "terminated"))
    return LogSource(namespace_of(pod), name_of(pod), container.name, previous=not ended)


def crashes(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Containers that crash, init containers among them, and bare pods that failed."""
    found: list[Finding] = []
    for pod in snapshot.kind("Pod"):
        if is_terminating(pod) or (is_finished(pod) and not _failed_alone(pod)):
            continue
        for container in containers(pod):
            if _crashing(pod, container, now):
                found.append(_finding(snapshot, pod, container, now))
    return found


def _failed_alone(pod: Obj) -> bool:
    """A pod that failed and that nothing replaces."""
    owned = bool(at(pod, "metadata", "ownerReferences"))
    return text(pod, "status", "phase") == "Failed" and not owned and not text(pod, "status", "reason")


def _crashing(pod: Obj, container: Container, now: datetime) -> bool:
    last = container.last_exit
    code = number(last, "exitCode")
    if container.waiting == "CrashLoopBackOff":
        return True
    if at(container.status, "state", "terminated"):
        always = text(pod, "spec", "restartPolicy") in ("", "Always") and (
            not container.init or container.sidecar
        )
        return code != 0 or (always and container.restarts > 0)
    if not last or container.waiting:
        return False
    if container.init and not container.sidecar and not container.running:
        return False
    ago = since(text(last, "finishedAt"), now)
    if ago is None or _planned(last) or (ago > RECENT and not _unrecovered(pod, container)):
        return False
    graceful = code in (0, 143) and text(last, "reason") != "OOMKilled"
    return not (graceful and container.restarts < _MANY)


def _unrecovered(pod: Obj, container: Container) -> bool:
    """Whether it has restarted many times, and its pod was never ready since the last one."""
    lost = parse_time(text(condition(pod, "Ready"), "lastTransitionTime"))
    started = container.started_at
    if container.ready or container.restarts < _MANY or lost is None or started is None:
        return False
    return text(condition(pod, "Ready"), "status") == "False" and lost <= started


def _planned(last: Obj) -> bool:
    """The runtime lost the container in a restart of its node."""
    return text(last, "reason") in ("Unknown", "ContainerStatusUnknown")


def _killed_by_probe(events: list[Event], container: Container) -> Event | None:
    """The event that says that the kubelet restarted the container because of a probe."""
    wording = re.compile(r"failed (liveness|startup) probe", re.I)
    return next(
        (
            event
            for event in events
            if event.container in ("", container.name)
            and wording.search(event.message)
            and (event.container or f" {container.name} " in f"{event.message} ")
        ),
        None,
    )


def _finding(snapshot: Snapshot, pod: Obj, container: Container, now: datetime) -> Finding:
    what, evidence = explain(container), exit_evidence(container, now)
    events = snapshot.events(pod)
    killed = snapshot.recent(pod, now, RECENT, "Killing")
    killing = _killed_by_probe(killed, container) if what.cause != "OOMKilled" else None
    if container.waiting:
        evidence.insert(0, Evidence(f"{container.label} waiting", _waiting(container)))
    if killing is not None:
        probe = "startup" if "startup probe" in killing.message.lower() else "liveness"
        what = Exit(
            f"{probe.title()}ProbeFailed",
            f"is restarted by the kubelet because its {probe} probe fails",
            f"Compare the {probe} probe with what the program answers, and with the time it needs to start.",
        )
        evidence.append(killing.evidence(now))
        unhealthy = [e for e in events if e.reason == "Unhealthy" and e.container in ("", container.name)]
        evidence += [e.evidence(now) for e in unhealthy if probe in e.message.lower()][:1]
    backoff = [e for e in events if e.reason == "BackOff" and e.container in ("", container.name)]
    evidence += [e.evidence(now) for e in backoff if "restarting failed" in e.message][:1]
    title = f"{container.label} {what.phrase}"
    return at_root(
        snapshot,
        pod,
        what.cause,
        title,
        evidence,
        what.next_step,
        judged=_recovered(container, now),
        logs=log_source(pod, container),
    )


def _waiting(container: Container) -> str:
    prefix = "Init:" if container.init and not container.sidecar else ""
    return f"{prefix}{container.waiting}: {container.waiting_message}".rstrip(": ")


def _recovered(container: Container, now: datetime) -> tuple[Severity, str] | None:
    """The judgement of a container that runs and is ready at the moment."""
    if not (container.running and container.ready):
        return None
    ago = since(text(container.last_exit, "finishedAt"), now) or 0.0
    told = f"it runs again, but was restarted {container.restarts} times, the last time {duration(ago)} ago"
    return (Severity.MEDIUM if container.restarts >= _MANY else Severity.LOW), told
