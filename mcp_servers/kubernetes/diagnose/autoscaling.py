"""HorizontalPodAutoscalers that can't do their work, and the metrics APIs they read."""

from __future__ import annotations

import re
from datetime import datetime

from mcp_servers.cluster.finding import Evidence, Finding, ObjectRef, Severity
from mcp_servers.kubernetes.diagnose.fields import (
    Obj,
    condition,
    mapping,
    name_of,
    namespace_of,
    number,
    text,
)
from mcp_servers.kubernetes.diagnose.impact import wanted
from mcp_servers.kubernetes.diagnose.podstate import GRACE, age, since
from mcp_servers.kubernetes.diagnose.services import backing
from mcp_servers.kubernetes.diagnose.snapshot import Snapshot, ref_of

_METRICS = {
    "FailedGetResourceMetric": "v1beta1.metrics.k8s.io",
    "FailedGetContainerResourceMetric": "v1beta1.metrics.k8s.io",
    "FailedGetPodsMetric": "custom.metrics.k8s.io",
    "FailedGetObjectMetric": "custom.metrics.k8s.io",
    "FailedGetExternalMetric": "external.metrics.k8s.io",
}
_STARTING = re.compile(r"did not receive metrics|no metrics returned|pods might be unready", re.IGNORECASE)
"""What an autoscaler says for a while about pods that have just started."""
_TARGETS = {
    "Deployment": "deployments.apps",
    "StatefulSet": "statefulsets.apps",
    "ReplicaSet": "replicasets.apps",
}


def autoscalers(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Autoscalers whose target is missing, that get no metrics, or that stand at their maximum."""
    found: list[Finding] = []
    for hpa in snapshot.kind("HorizontalPodAutoscaler"):
        finding = _target_missing(snapshot, hpa) or _blind(snapshot, hpa, now) or _at_max(snapshot, hpa, now)
        if finding is not None:
            found.append(finding)
    return found


def _target(hpa: Obj) -> ObjectRef:
    target = mapping(hpa, "spec", "scaleTargetRef")
    return ObjectRef(text(target, "kind"), namespace_of(hpa), text(target, "name"))


def _said(hpa: Obj, row: Obj) -> Evidence:
    told = f"{text(row, 'status')}, {text(row, 'reason')}: {text(row, 'message')}"
    return Evidence(f"hpa {name_of(hpa)} condition {text(row, 'type')}", told)


def _target_missing(snapshot: Snapshot, hpa: Obj) -> Finding | None:
    target, able = _target(hpa), condition(hpa, "AbleToScale")
    refused = text(able, "status") == "False" and text(able, "reason") == "FailedGetScale"
    resource = _TARGETS.get(target.kind)
    absent = resource is not None and snapshot.listed(resource) and snapshot.find(target) is None
    if not refused and not absent:
        return None
    gone = absent or "not found" in text(able, "message")
    evidence = [Evidence(f"hpa {name_of(hpa)} target", f"{target}" + (" (not there)" if absent else ""))]
    if refused:
        evidence.insert(0, _said(hpa, able))
    return Finding(
        ref_of(hpa),
        Severity.MEDIUM,
        "nothing is scaled",
        "ScaleTargetMissing" if gone else "FailedGetScale",
        f"the autoscaler's target {target} does not exist"
        if gone
        else f"the scale of {target} can't be read",
        tuple(evidence),
        "Correct scaleTargetRef, or delete the autoscaler.",
    )


def _blind(snapshot: Snapshot, hpa: Obj, now: datetime) -> Finding | None:
    active, able = condition(hpa, "ScalingActive"), condition(hpa, "AbleToScale")
    row = active if text(active, "status") == "False" else able if text(able, "status") == "False" else {}
    reason = text(row, "reason")
    if not row or reason in ("ScalingDisabled", "BackoffBoth", "BackoffDownscale", "BackoffUpscale"):
        return None
    if age(hpa, now) < GRACE and _STARTING.search(text(row, "message")):
        return None
    target = snapshot.find(_target(hpa))
    if target is not None and not wanted(target):
        return None
    metrics = reason in _METRICS
    evidence = [_said(hpa, row)]
    evidence += [
        event.evidence(now)
        for event in snapshot.events(hpa, reason)[:1]
        if event.message != text(row, "message")
    ]
    suspects = (*(_blamed(snapshot, one) for one in _apis(snapshot, reason)), _target(hpa))
    if "missing request for" in text(row, "message"):
        step = "Set the resource request the message names on every container of the target."
    else:
        step = (
            "Look at the metrics server or adapter, and its APIService."
            if metrics
            else "Correct what the message names."
        )
    return Finding(
        ref_of(hpa),
        Severity.MEDIUM,
        "the workload runs, but is not scaled to its load",
        reason,
        "the autoscaler can't fetch its metrics" if metrics else f"the autoscaler can't scale ({reason})",
        tuple(evidence),
        step,
        suspects=suspects,
    )


def _at_max(snapshot: Snapshot, hpa: Obj, now: datetime) -> Finding | None:
    limited = condition(hpa, "ScalingLimited")
    most, current = number(hpa, "spec", "maxReplicas"), number(hpa, "status", "currentReplicas")
    if text(limited, "status") != "True" or text(limited, "reason") != "TooManyReplicas" or current < most:
        return None
    lasted = since(text(limited, "lastTransitionTime"), now)
    if most == number(hpa, "spec", "minReplicas", default=1) or (lasted is not None and lasted < GRACE):
        return None
    return Finding(
        ref_of(hpa),
        Severity.LOW,
        "it serves with all the replicas it may have, but the load wants more",
        "AtMaxReplicas",
        f"the autoscaler stands at its maximum of {most} replicas",
        (_said(hpa, limited),),
        "Raise maxReplicas if the nodes have room, or find where the load comes from.",
    )


def _apis(snapshot: Snapshot, reason: str) -> list[Obj]:
    """The APIServices behind this kind of metric that are not available."""
    wanted_api = _METRICS.get(reason, "-")
    return [api for api in _unavailable(snapshot) if name_of(api).endswith(wanted_api)]


def _unavailable(snapshot: Snapshot) -> list[Obj]:
    return [
        api
        for api in snapshot.kind("APIService")
        if text(condition(api, "Available"), "status") == "False" and text(api, "spec", "service", "name")
    ]


def _blamed(snapshot: Snapshot, api: Obj) -> ObjectRef:
    """The workload scaled to zero behind the API; the API itself when there is none."""
    namespace, name = text(api, "spec", "service", "namespace"), text(api, "spec", "service", "name")
    service = snapshot.get("Service", namespace, name)
    owners = backing(snapshot, service) if service is not None else []
    return ref_of(owners[0]) if owners and not any(wanted(owner) for owner in owners) else ref_of(api)


def unavailable_apis(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Aggregated APIs (metrics among them) that the API server can't reach."""
    found: list[Finding] = []
    for api in _unavailable(snapshot):
        row = condition(api, "Available")
        lasted = since(text(row, "lastTransitionTime"), now)
        if lasted is not None and lasted < GRACE:
            continue
        root = _blamed(snapshot, api)
        told = f"False, {text(row, 'reason')}: {text(row, 'message')}"
        evidence = [Evidence(f"apiservice {name_of(api)} condition Available", told)]
        zero = root.kind != "APIService"
        if zero:
            evidence.append(Evidence(f"{root.kind} {root.name} spec", "replicas: 0"))
        service = ObjectRef(
            "Service", text(api, "spec", "service", "namespace"), text(api, "spec", "service", "name")
        )
        found.append(
            Finding(
                root,
                Severity.MEDIUM,
                f"whatever reads {name_of(api)} fails",
                "ScaledToZero" if zero else "APIServiceUnavailable",
                f"it serves {name_of(api)}, but is scaled to zero"
                if zero
                else "the API server can't reach this API",
                tuple(evidence),
                f"Scale {root} up again." if zero else f"Bring up what answers {service}.",
                affects=(ref_of(api),) if zero else (),
                suspects=(service,) if not zero else (),
            )
        )
    return found
