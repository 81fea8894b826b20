"""Scale and eviction: the subresources that are written through."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from lab.objects import Obj, condition_is, is_deleting, meta, name_of, uid_of
from lab.patches import MERGE, STRATEGIC, apply_patch
from lab.requests import ResourceRequest
from lab.selectors import text_of
from lab.simulation.budgets import covered, update_budgets
from lab.simulation.replicasets import mark_deleted
from lab.status import ApiError, bad_request, too_many_requests
from lab.store import Store
from lab.writes import WriteOptions, Writer, check_preconditions


def scale_of(obj: Obj) -> Obj:
    """The autoscaling/v1 Scale of a workload."""
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta(obj)[key] for key in kept},
        "spec": {"replicas": obj["spec"].get("replicas", 1)},
        "status": {
            "replicas": (obj.get("status") or {}).get("replicas", 0),
            "selector": text_of(obj["spec"].get("selector")),
        },
    }


def write_scale(
    writer: Writer,
    request: ResourceRequest,
    content_type: str,
    body: Any,
    options: WriteOptions,
    now: datetime,
) -> Obj:
    """Sets the replicas through a Scale, by update or patch; returns the new Scale. Raises 4xx."""
    before = writer.get(request.resource, request.namespace, request.name)
    scale = body
    if request.verb == "patch":
        # A Scale has no lists that merge, so the strategic patch is a merge patch.
        media = MERGE if content_type.startswith(STRATEGIC) else content_type
        scale = apply_patch(media, request.resource, scale_of(before), body)
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int):
        raise bad_request("json: cannot unmarshal into Go struct field ScaleSpec.spec.replicas of type int32")
    metadata = {**before["metadata"]}
    if scale.get("metadata", {}).get("resourceVersion"):
        metadata["resourceVersion"] = scale["metadata"]["resourceVersion"]
    whole = ResourceRequest("update", request.resource, request.namespace, request.name, "")
    changed = {**before, "metadata": metadata, "spec": {**before["spec"], "replicas": replicas}}
    return scale_of(writer.update(whole, changed, options, now))


def evict(
    store: Store, writer: Writer, request: ResourceRequest, body: Obj, options: WriteOptions, now: datetime
) -> Obj:
    """Deletes the pod if its disruption budget allows it. Raises 404, 409, 429 and 500."""
    pod = writer.get(request.resource, request.namespace, request.name)
    wanted = (body.get("deleteOptions") or {}).get("preconditions") or {}
    check_preconditions(request.resource, pod, wanted)
    budgets = [b for b in store.all("poddisruptionbudgets.policy", request.namespace) if _covers(store, b, pod)]
    if pod["status"].get("phase") in ("Succeeded", "Failed", "Pending") or is_deleting(pod):
        budgets = []  # Nothing that serves is disrupted.
    if len(budgets) > 1:
        text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise ApiError(500, "InternalError", text, {})
    for budget in budgets:
        _check_budget(budget, pod)
    if not options.dry and not is_deleting(pod):
        mark_deleted(store, pod, now)
        update_budgets(store)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _covers(store: Store, budget: Obj, pod: Obj) -> bool:
    return any(uid_of(one) == uid_of(pod) for one in covered(store, budget))


def _check_budget(budget: Obj, pod: Obj) -> None:
    """Raises 429 when the budget forbids it: by default also for a pod that is not ready, unless enough others are."""
    status = budget.get("status") or {}
    needs, has = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
    if status.get("disruptionsAllowed", 0) > 0:
        return
    policy = budget["spec"].get("unhealthyPodEvictionPolicy", "IfHealthyBudget")
    if not condition_is(pod, "Ready") and (policy == "AlwaysAllow" or has >= needs):
        return
    text = f"The disruption budget {name_of(budget)} needs {needs} healthy pods and has {has} currently"
    cause = {"reason": "DisruptionBudget", "message": text}
    raise too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", cause)
