"""The status of a pod, written from the lives of its containers."""

from __future__ import annotations

from datetime import datetime

from lab.objects import Obj
from lab.simulation.containers import ContainerLife, Run
from lab.simulation.images import image_id, reference
from lab.times import rfc3339


def _terminated(run: Run) -> Obj:
    assert run.ended is not None
    return {
        "terminated": {
            "exitCode": run.exit_code,
            "reason": run.reason if run.exit_code else "Completed",
            "startedAt": rfc3339(run.started),
            "finishedAt": rfc3339(run.ended),
            "containerID": run.container_id,
        }
    }


def _state(life: ContainerLife) -> Obj:
    if life.stage == "running" and life.run is not None:
        return {"running": {"startedAt": rfc3339(life.run.started)}}
    if life.stage in ("exited", "finished") and life.run is not None:
        return _terminated(life.run)
    reason, message = life.waiting
    return {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}


def previous_run(life: ContainerLife) -> Run | None:
    """The run that lastState shows: the current one once the container waits to start again."""
    if life.stage in ("running", "exited", "finished"):
        return life.last
    return life.run or life.last


def _container_status(life: ContainerLife) -> Obj:
    state, before = _state(life), previous_run(life)
    status: Obj = {
        "name": life.spec["name"],
        "state": state,
        "lastState": _terminated(before) if before and before.ended else {},
        "ready": life.ready if not life.init else life.succeeded,
        "restartCount": life.restarts,
        "image": reference(life.image) if life.run else life.image,
        "imageID": image_id(life.image) if life.run else "",
        "started": life.running,
    }
    if life.run is not None:
        status["containerID"] = life.run.container_id
    resources = life.spec.get("resources")
    if life.running and resources:
        status["resources"] = resources
    return status


def phase(lives: list[ContainerLife]) -> str:
    """Pending until every main container has begun once; Succeeded or Failed when none will run again."""
    main = [life for life in lives if not life.init]
    failed_init = any(life.init and life.stage == "finished" and not life.succeeded for life in lives)
    if failed_init:
        return "Failed"
    if any(life.run is None for life in main):
        return "Pending"
    if all(life.stage == "finished" for life in main):
        return "Succeeded" if all(life.succeeded for life in main) else "Failed"
    return "Running"


def set_condition(
    conditions: list[Obj],
    kind: str,
    status: str,
    at: datetime,
    reason: str = "",
    message: str = "",
    generation: int | None = None,
) -> None:
    """Sets a condition in place; its transition time moves only when the status does."""
    made: Obj = {"type": kind, "status": status}
    if generation is not None:
        made["observedGeneration"] = generation
    if reason:
        made["reason"] = reason
    if message:
        made["message"] = message
    for position, item in enumerate(conditions):
        if item["type"] == kind:
            kept = item["lastTransitionTime"] if item["status"] == status else rfc3339(at)
            probe = {"lastProbeTime": item["lastProbeTime"]} if "lastProbeTime" in item else {}
            conditions[position] = {**made, **probe, "lastTransitionTime": kept}
            return
    conditions.append({**made, "lastProbeTime": None, "lastTransitionTime": rfc3339(at)})


def update_conditions(conditions: list[Obj], lives: list[ContainerLife], at: datetime) -> None:
    """The kubelet's four conditions, in place."""
    main = [life for life in lives if not life.init]
    waiting_inits = [life.spec["name"] for life in lives if life.init and not life.succeeded]
    unready = [life.spec["name"] for life in main if not life.ready]
    sandboxed = any(life.stage != "idle" for life in lives)
    done = phase(lives)
    ended = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(done, "")
    set_condition(conditions, "PodReadyToStartContainers", str(sandboxed and not ended), at)
    if waiting_inits:
        message = f"containers with incomplete status: [{' '.join(waiting_inits)}]"
        set_condition(conditions, "Initialized", "False", at, "ContainersNotInitialized", message)
    else:
        set_condition(conditions, "Initialized", "True", at, "PodCompleted" if done == "Succeeded" else "")
    message = f"containers with unready status: [{' '.join(unready)}]" if unready and not ended else ""
    reason = ended or ("ContainersNotReady" if unready else "")
    for kind in ("Ready", "ContainersReady"):
        set_condition(conditions, kind, "False" if unready else "True", at, reason, message)


def container_statuses(lives: list[ContainerLife]) -> Obj:
    """`containerStatuses` and, if there are any, `initContainerStatuses`."""
    found: Obj = {"containerStatuses": [_container_status(life) for life in lives if not life.init]}
    inits = [_container_status(life) for life in lives if life.init]
    return {"initContainerStatuses": inits, **found} if inits else found
