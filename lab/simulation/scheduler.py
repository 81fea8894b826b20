"""The scheduler: binds pending pods to nodes, or says why it cannot."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from fractions import Fraction

from lab.events import Recorder, Source
from lab.objects import Obj, is_deleting, labels_of, name_of, namespace_of, uid_of
from lab.quantities import parse_quantity
from lab.simulation.podstatus import set_condition
from lab.store import Store

_SOURCE = Source("default-scheduler")
RETRY = timedelta(minutes=5)
"""The longest that the scheduler leaves a pod among the unschedulable ones."""
_HELPLESS = "Preemption is not helpful for scheduling"
_NO_VICTIMS = "No preemption victims found for incoming pod"


def tolerates(pod: Obj, taint: Obj) -> bool:
    for item in pod["spec"].get("tolerations") or []:
        if item.get("effect") not in (None, "", taint["effect"]):
            continue
        if item.get("key") not in (None, "", taint["key"]):
            continue
        if item.get("operator") == "Exists" or item.get("value", "") == taint.get("value", ""):
            return True
    return False


def node_accepts(pod: Obj, node: Obj) -> str:
    """Why the node's taints or labels keep the pod away; empty if they do not."""
    if node["spec"].get("unschedulable") and not tolerates(pod, UNSCHEDULABLE):
        return "node(s) were unschedulable"
    for taint in node["spec"].get("taints") or []:
        if taint["effect"] != "PreferNoSchedule" and not tolerates(pod, taint):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    wanted = pod["spec"].get("nodeSelector") or {}
    if any(labels_of(node).get(key) != value for key, value in wanted.items()):
        return "node(s) didn't match Pod's node affinity/selector"
    return ""


UNSCHEDULABLE: Obj = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def requested(pod: Obj, resource: str) -> Fraction:
    total = Fraction(0)
    for container in pod["spec"]["containers"]:
        resources = container.get("resources") or {}
        amount = (resources.get("requests") or {}).get(resource) or (resources.get("limits") or {}).get(
            resource
        )
        total += parse_quantity(amount) if amount else 0
    return total


class Scheduler:
    def __init__(self, store: Store, recorder: Recorder) -> None:
        self._store, self._recorder = store, recorder
        self._told: dict[str, datetime] = {}

    def step(self, now: datetime) -> None:
        pending = [p for p in self._store.all("pods") if not p["spec"].get("nodeName") and not is_deleting(p)]
        for pod in pending:
            self._schedule(pod, now)

    def _schedule(self, pod: Obj, now: datetime) -> None:
        nodes = self._store.all("nodes")
        problem = self._claim_problem(pod)
        if problem:
            self._refuse(
                pod,
                f"0/{len(nodes)} nodes are available: {problem}. preemption: "
                f"0/{len(nodes)} nodes are available: {len(nodes)} {_HELPLESS}.",
                now,
            )
            return
        reasons = {name_of(node): self._unfit(pod, node) for node in nodes}
        fitting = [node for node in nodes if not reasons[name_of(node)]]
        if fitting:
            self._bind(pod, min(fitting, key=self._load), now)
            return
        counted = Counter(reason for found in reasons.values() for reason in found)
        helpless = sum(
            1 for found in reasons.values() if not all(r.startswith("Insufficient") for r in found)
        )
        outlook = [(helpless, _HELPLESS), (len(nodes) - helpless, _NO_VICTIMS)]
        self._refuse(
            pod,
            f"0/{len(nodes)} nodes are available: {_sentence(counted)}. preemption: 0/{len(nodes)} nodes are "
            f"available: {', '.join(f'{count} {text}' for count, text in outlook if count)}.",
            now,
        )

    def _claim_problem(self, pod: Obj) -> str:
        for claim in self._claims(pod):
            found = self._store.get("persistentvolumeclaims", namespace_of(pod), claim)
            if found is None:
                return f'persistentvolumeclaim "{claim}" not found'
            bound = found.get("status", {}).get("phase") == "Bound"
            class_name = found["spec"].get("storageClassName", "")
            known = self._store.get("storageclasses.storage.k8s.io", "", class_name)
            if not bound and (known is None or known.get("volumeBindingMode") != "WaitForFirstConsumer"):
                return "pod has unbound immediate PersistentVolumeClaims"
        return ""

    def _claims(self, pod: Obj) -> list[str]:
        volumes = pod["spec"].get("volumes") or []
        return [v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v]

    def _unfit(self, pod: Obj, node: Obj) -> list[str]:
        refusal = node_accepts(pod, node)
        if refusal:
            return [refusal]
        short = []
        for resource in ("cpu", "memory"):
            free = parse_quantity(node["status"]["allocatable"][resource]) - self._taken(node, resource)
            if requested(pod, resource) > free:
                short.append(f"Insufficient {resource}")
        if short:
            return short
        for claim in self._claims(pod):
            volume = self._volume_node(namespace_of(pod), claim)
            if volume and volume != name_of(node):
                return ["node(s) didn't match PersistentVolume's node affinity"]
        return []

    def _taken(self, node: Obj, resource: str) -> Fraction:
        taken = Fraction(0)
        for pod in self._store.all("pods"):
            alive = pod["status"].get("phase") not in ("Succeeded", "Failed")
            if alive and pod["spec"].get("nodeName") == name_of(node):
                taken += requested(pod, resource)
        return taken

    def _load(self, node: Obj) -> tuple[Fraction, str]:
        return self._taken(node, "memory") / parse_quantity(node["status"]["allocatable"]["memory"]), name_of(
            node
        )

    def _volume_node(self, namespace: str, claim: str) -> str:
        found = self._store.get("persistentvolumeclaims", namespace, claim)
        volume = self._store.get("persistentvolumes", "", (found or {}).get("spec", {}).get("volumeName", ""))
        if volume is None or "nodeAffinity" not in volume["spec"]:
            return ""
        terms = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
        return str(terms[0]["matchExpressions"][0]["values"][0])

    def _bind(self, pod: Obj, node: Obj, now: datetime) -> None:
        conditions = [dict(item) for item in pod["status"].get("conditions") or []]
        set_condition(conditions, "PodScheduled", "True", now)
        spec = {**pod["spec"], "nodeName": name_of(node)}
        self._store.replace(
            "pods", {**pod, "spec": spec, "status": {**pod["status"], "conditions": conditions}}
        )
        where = f"{namespace_of(pod)}/{name_of(pod)}"
        message = f"Successfully assigned {where} to {name_of(node)}"
        self._recorder.record(pod, _SOURCE, "Normal", "Scheduled", message, now)

    def _refuse(self, pod: Obj, message: str, now: datetime) -> None:
        conditions = [dict(item) for item in pod["status"].get("conditions") or []]
        set_condition(conditions, "PodScheduled", "False", now, "Unschedulable", message)
        status = {**pod["status"], "conditions": conditions}
        changed = status != pod["status"]
        if changed:
            self._store.replace("pods", {**pod, "status": status})
        if changed or now - self._told.get(uid_of(pod), now - RETRY) >= RETRY:
            self._told[uid_of(pod)] = now
            self._recorder.record(pod, _SOURCE, "Warning", "FailedScheduling", message, now)


def _sentence(counted: Counter[str]) -> str:
    """`1 node(s) had ..., 2 Insufficient memory`: sorted as strings, as the scheduler does."""
    return ", ".join(sorted(f"{count} {reason}" for reason, count in counted.items()))
