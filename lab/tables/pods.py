"""The pods table; its STATUS column is a computed word, as in k8s.io/kubernetes/pkg/printers."""

from __future__ import annotations

from datetime import datetime

from lab.objects import Obj, condition_is, is_deleting, name_of
from lab.tables.columns import Cell, Columns
from lab.times import age, human_duration, parse_instant


def _state_word(state: Obj) -> str:
    """What one container state says: a waiting or terminated reason, else empty."""
    waiting, ended = state.get("waiting"), state.get("terminated")
    if waiting and waiting.get("reason"):
        return str(waiting["reason"])
    if ended is None:
        return ""
    if ended.get("reason"):
        return str(ended["reason"])
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"


def _init_word(pod: Obj) -> str:
    statuses = pod["status"].get("initContainerStatuses") or []
    for index, item in enumerate(statuses):
        state = item.get("state", {})
        if (state.get("terminated") or {}).get("exitCode") == 0:
            continue
        word = _state_word(state)
        if word and word != "PodInitializing":
            return f"Init:{word}"
        return f"Init:{index}/{len(pod['spec'].get('initContainers') or [])}"
    return ""


def status_word(pod: Obj) -> str:
    """The STATUS column."""
    status = pod.get("status") or {}
    word = str(status.get("reason") or status.get("phase", "Unknown"))
    initializing = _init_word(pod)
    if initializing:
        word = initializing
    else:
        running = False
        for item in reversed(status.get("containerStatuses") or []):
            found = _state_word(item.get("state", {}))
            if found:
                word = found
            elif item.get("ready") and "running" in item.get("state", {}):
                running = True
        if word == "Completed" and running:
            word = "Running" if condition_is(pod, "Ready") else "NotReady"
    if is_deleting(pod):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return word


def _restarts(pod: Obj, now: datetime) -> str:
    # While it initialises, a pod's restarts are those of its init containers.
    kind = "initContainerStatuses" if _init_word(pod) else "containerStatuses"
    statuses = pod["status"].get(kind) or []
    count = sum(int(item.get("restartCount", 0)) for item in statuses)
    ends = [
        item["lastState"]["terminated"]["finishedAt"]
        for item in statuses
        if (item.get("lastState") or {}).get("terminated")
    ]
    if not count or not ends:
        return str(count)
    return f"{count} ({human_duration(now - parse_instant(max(ends)))} ago)"


def _row(pod: Obj, now: datetime) -> list[Cell]:
    statuses = pod["status"].get("containerStatuses") or []
    up = sum(1 for item in statuses if item.get("ready") and "running" in item.get("state", {}))
    gates = pod["spec"].get("readinessGates") or []
    return [
        name_of(pod),
        f"{up}/{len(pod['spec']['containers'])}",
        status_word(pod),
        _restarts(pod, now),
        age(pod["metadata"].get("creationTimestamp"), now),
        pod["status"].get("podIP") or "<none>",
        pod["spec"].get("nodeName") or "<none>",
        pod["status"].get("nominatedNodeName") or "<none>",
        f"0/{len(gates)}" if gates else "<none>",
    ]


PODS = Columns(
    ("Name", "Ready", "Status", "Restarts", "Age"), ("IP", "Node", "Nominated Node", "Readiness Gates"), _row
)
