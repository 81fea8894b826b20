"""Tables of the kinds that own pods."""

from __future__ import annotations

from datetime import datetime

from lab.objects import Obj, condition_is, is_deleting, name_of
from lab.selectors import text_of
from lab.tables.columns import Cell, Columns, listed
from lab.times import age, human_duration, parse_instant


def _images(template: Obj) -> list[Cell]:
    containers = template["spec"].get("containers") or []
    return [listed([c["name"] for c in containers]), listed([c["image"] for c in containers])]


def _born(obj: Obj, now: datetime) -> str:
    return age(obj["metadata"].get("creationTimestamp"), now)


def _status(obj: Obj, key: str) -> int:
    return int((obj.get("status") or {}).get(key, 0))


def _wide(obj: Obj) -> list[Cell]:
    return [*_images(obj["spec"]["template"]), text_of(obj["spec"].get("selector"))]


def _deployment(obj: Obj, now: datetime) -> list[Cell]:
    ready = f"{_status(obj, 'readyReplicas')}/{obj['spec'].get('replicas', 1)}"
    return [
        name_of(obj),
        ready,
        _status(obj, "updatedReplicas"),
        _status(obj, "availableReplicas"),
        _born(obj, now),
        *_wide(obj),
    ]


def _replica_set(obj: Obj, now: datetime) -> list[Cell]:
    return [
        name_of(obj),
        obj["spec"].get("replicas", 1),
        _status(obj, "replicas"),
        _status(obj, "readyReplicas"),
        _born(obj, now),
        *_wide(obj),
    ]


def _stateful_set(obj: Obj, now: datetime) -> list[Cell]:
    ready = f"{_status(obj, 'readyReplicas')}/{obj['spec'].get('replicas', 1)}"
    return [name_of(obj), ready, _born(obj, now), *_images(obj["spec"]["template"])]


def _daemon_set(obj: Obj, now: datetime) -> list[Cell]:
    keys = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    wanted = obj["spec"]["template"]["spec"].get("nodeSelector") or {}
    chosen = listed([f"{key}={value}" for key, value in sorted(wanted.items())])
    return [name_of(obj), *(_status(obj, key) for key in keys), chosen, _born(obj, now), *_wide(obj)]


def _job_word(obj: Obj) -> str:
    for kind in ("Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if condition_is(obj, kind):
            return kind
    return "Terminating" if is_deleting(obj) else "Running"


def _job(obj: Obj, now: datetime) -> list[Cell]:
    status = obj.get("status") or {}
    started, ended = status.get("startTime"), status.get("completionTime")
    span: str = ""
    if started:
        span = human_duration((parse_instant(ended) if ended else now) - parse_instant(started))
    done = f"{_status(obj, 'succeeded')}/{obj['spec'].get('completions', 1)}"
    return [name_of(obj), _job_word(obj), done, span, _born(obj, now), *_wide(obj)]


def _cron_job(obj: Obj, now: datetime) -> list[Cell]:
    status = obj.get("status") or {}
    last = status.get("lastScheduleTime")
    template = obj["spec"]["jobTemplate"]["spec"]["template"]
    return [
        name_of(obj),
        obj["spec"]["schedule"],
        obj["spec"].get("timeZone") or "<none>",
        str(bool(obj["spec"].get("suspend"))),
        len(status.get("active") or []),
        age(last, now) if last else "<none>",
        _born(obj, now),
        *_images(template),
        "<none>",
    ]


def _autoscaler(obj: Obj, now: datetime) -> list[Cell]:
    status = obj.get("status") or {}
    target = obj["spec"]["scaleTargetRef"]
    current = {m["resource"]["name"]: m["resource"]["current"] for m in status.get("currentMetrics") or []}
    texts = []
    for metric in obj["spec"].get("metrics") or []:
        name, wanted = metric["resource"]["name"], metric["resource"]["target"]["averageUtilization"]
        now_text = f"{current[name]['averageUtilization']}%" if name in current else "<unknown>"
        texts.append(f"{name}: {now_text}/{wanted}%")
    return [
        name_of(obj),
        f"{target['kind']}/{target['name']}",
        ", ".join(texts) or "<none>",
        str(obj["spec"].get("minReplicas", 1)),
        obj["spec"]["maxReplicas"],
        status.get("currentReplicas", 0),
        _born(obj, now),
    ]


def _budget(obj: Obj, now: datetime) -> list[Cell]:
    spec = obj["spec"]
    return [
        name_of(obj),
        str(spec.get("minAvailable", "N/A")),
        str(spec.get("maxUnavailable", "N/A")),
        _status(obj, "disruptionsAllowed"),
        _born(obj, now),
    ]


def _revision(obj: Obj, now: datetime) -> list[Cell]:
    owner = (obj["metadata"].get("ownerReferences") or [{}])[0]
    plural = {"StatefulSet": "statefulset.apps", "DaemonSet": "daemonset.apps"}.get(owner.get("kind", ""), "")
    return [name_of(obj), f"{plural}/{owner.get('name', '<none>')}", obj["revision"], _born(obj, now)]


_IMAGES = ("Containers", "Images")
_SELECTED = (*_IMAGES, "Selector")

WORKLOADS = {
    "deployments.apps": Columns(
        ("Name", "Ready", "Up-to-date", "Available", "Age"),
        _SELECTED,
        _deployment,
        frozenset({"Up-to-date", "Available"}),
    ),
    "replicasets.apps": Columns(
        ("Name", "Desired", "Current", "Ready", "Age"),
        _SELECTED,
        _replica_set,
        frozenset({"Desired", "Current", "Ready"}),
    ),
    "statefulsets.apps": Columns(("Name", "Ready", "Age"), _IMAGES, _stateful_set),
    "daemonsets.apps": Columns(
        ("Name", "Desired", "Current", "Ready", "Up-to-date", "Available", "Node Selector", "Age"),
        _SELECTED,
        _daemon_set,
        frozenset({"Desired", "Current", "Ready", "Up-to-date", "Available"}),
    ),
    "jobs.batch": Columns(("Name", "Status", "Completions", "Duration", "Age"), _SELECTED, _job),
    "cronjobs.batch": Columns(
        ("Name", "Schedule", "Timezone", "Suspend", "Active", "Last Schedule", "Age"),
        _SELECTED,
        _cron_job,
        frozenset({"Active"}),
    ),
    "horizontalpodautoscalers.autoscaling": Columns(
        ("Name", "Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age"),
        (),
        _autoscaler,
        frozenset({"MaxPods", "Replicas"}),
    ),
    "poddisruptionbudgets.policy": Columns(
        ("Name", "Min Available", "Max Unavailable", "Allowed Disruptions", "Age"),
        (),
        _budget,
        frozenset({"Allowed Disruptions"}),
    ),
    "controllerrevisions.apps": Columns(
        ("Name", "Controller", "Revision", "Age"), (), _revision, frozenset({"Revision"})
    ),
}
