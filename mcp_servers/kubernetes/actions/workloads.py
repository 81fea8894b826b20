"""Workloads as actions see them: how a rollout ends, and which of their pods are in trouble."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mcp_servers.cluster.connection import Cluster, segment
from mcp_servers.cluster.objects import Found, look, said
from mcp_servers.cluster.waiting import Time, watched
from mcp_servers.kubernetes.rollouts import progress
from opswarm.actions.action import Intent, Verification
from opswarm.errors import InvalidInput, OpswarmError, PermissionDenied

ROLLED = {"Deployment", "StatefulSet", "DaemonSet"}
_BAD = frozenset(
    {
        "CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "InvalidImageName", "CreateContainerConfigError",
        "CreateContainerError", "RunContainerError", "ErrImageNeverPull",
    }
)  # fmt: skip
_MOST_PODS = 100
_CRASHES = 2
"""Restarts after which a container that is not ready is said to crash: one may be a dependency that was not up yet."""


def of_kind(found: Found, kinds: Iterable[str]) -> Found:
    """`found`, when it is a built-in one of these kinds. Raises `InvalidInput`."""
    if found.resource.kind not in kinds or found.resource.group != "apps":
        raise InvalidInput(f"A {found.resource.kind} can't be treated so.", hint=f"These can: {', '.join(kinds)}.")
    return found


async def rolled_out(cluster: Cluster, intent: Intent, seconds: float, by: Time) -> Verification:
    """Waits for the rollout of the intent's workload, and says what came of it."""
    latest: dict[str, Mapping[str, Any]] = {}

    async def seen() -> Verification:
        obj = await look(cluster, intent)
        if obj is None:
            return Verification(False, f"{intent.state['object']} is gone.")
        latest["workload"] = obj
        done, text = progress({"kind": intent.state["kind"], **obj})
        # Until its controller has seen the change, what it says is about what was before.
        current = (obj.get("status") or {}).get("observedGeneration", 0) >= obj["metadata"].get("generation", 0)
        failed = current and any(c.get("reason") == "ProgressDeadlineExceeded" for c in _conditions(obj))
        return Verification(True if done else False if failed else None, f"{intent.state['object']}: {text}.")

    result = await watched(seen, seconds, by)
    if result.ok or "workload" not in latest:
        return result
    trouble = await _troubles(cluster, latest["workload"])
    if not trouble:
        return result
    return Verification(False, f"{result.text.removesuffix('.')}; {trouble}.")


def _conditions(obj: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return (obj.get("status") or {}).get("conditions") or ()


async def _troubles(cluster: Cluster, workload: Mapping[str, Any]) -> str:
    """Which pods of a workload can't start; "" where none is seen to, or pods may not be listed."""
    namespace = str(workload["metadata"]["namespace"])
    labels = ((workload.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    if not labels:
        return ""
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    query: dict[str, str | int] = {"labelSelector": selector, "limit": _MOST_PODS}
    try:
        body = (await cluster.get(f"/api/v1/namespaces/{segment(namespace)}/pods", query)).json()
    except PermissionDenied:
        return ""
    found = [text for pod in body.get("items") or () if (text := trouble_of(pod))]
    return "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")


def trouble_of(pod: Mapping[str, Any]) -> str:
    """Why a pod does not get on, in a few words; "" when it does."""
    status, name = pod.get("status") or {}, said(pod["metadata"]["name"])
    if pod["metadata"].get("deletionTimestamp"):
        return ""
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        reason = str(((container.get("state") or {}).get("waiting") or {}).get("reason") or "")
        if reason in _BAD:
            return f"pod {name} is {reason}"
        if crashes := _crashes(container):
            return f"pod {name} {crashes}"
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return f"pod {name} can't be scheduled: {said(condition.get('message') or '')}"
    return f"pod {name} has failed" if status.get("phase") == "Failed" else ""


def _crashes(container: Mapping[str, Any]) -> str:
    """How often a container has crashed that is just being tried again, or has just ended; "" where it has not."""
    times = int(container.get("restartCount") or 0)
    if container.get("ready") or times < _CRASHES:
        return ""
    for state in ("state", "lastState"):
        ended = (container.get(state) or {}).get("terminated") or {}
        if ended.get("exitCode"):
            why = f", {said(ended['reason'])}" if ended.get("reason") not in (None, "", "Error") else ""
            return f"has crashed {times} times (exit code {int(ended['exitCode'])}{why})"
    return ""


async def controller_ready(cluster: Cluster, path: str) -> tuple[bool | None, str]:
    """Whether what controls a pod has all its pods ready again, and how many. None where that can't be told."""
    try:
        obj = (await cluster.get(path)).json()
    except OpswarmError:
        return None, ""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if "desiredNumberScheduled" in status:
        wanted, up = int(status["desiredNumberScheduled"]), int(status.get("numberReady") or 0)
    else:
        wanted, up = int(spec.get("replicas", 1)), int(status.get("readyReplicas") or 0)
    return up >= wanted, f"{up} of {wanted} pods of {said(obj['metadata']['name'])} are ready"
