"""The disruption controller: how many pods of a budget may be evicted now."""

from __future__ import annotations

from lab import selectors
from lab.objects import Obj, condition_is, labels_of, namespace_of, uid_of
from lab.simulation.replicasets import active
from lab.store import Store


def _amount(value: int | str, of: int) -> int:
    # A percentage is rounded up, as the controller does.
    return -(-of * int(value.rstrip("%")) // 100) if isinstance(value, str) else value


def covered(store: Store, budget: Obj) -> list[Obj]:
    """The living pods that the budget selects."""
    selector = selectors.from_object(budget["spec"].get("selector"))
    pods = active(store.all("pods", namespace_of(budget)))
    return [pod for pod in pods if selectors.matches(selector, labels_of(pod))]


def _expected(store: Store, pods: list[Obj]) -> int:
    """How many pods there should be: what their controllers want, not how many there are just now."""
    owners: dict[str, int] = {}
    alone = 0
    for pod in pods:
        owner = _owner(store, "replicasets.apps", pod) or _owner(store, "statefulsets.apps", pod)
        # Two ReplicaSets of one Deployment, in a rollout, are wanted once.
        owner = (_owner(store, "deployments.apps", owner) or owner) if owner else None
        if owner is None:
            alone += 1
        else:
            owners[uid_of(owner)] = int(owner["spec"].get("replicas", 1))
    return sum(owners.values()) + alone


def _owner(store: Store, storage: str, obj: Obj) -> Obj | None:
    for reference in obj["metadata"].get("ownerReferences") or []:
        found = store.get(storage, namespace_of(obj), reference["name"])
        if reference.get("controller") and found is not None and uid_of(found) == reference["uid"]:
            return found
    return None


def update_budgets(store: Store) -> None:
    for budget in store.all("poddisruptionbudgets.policy"):
        pods = covered(store, budget)
        healthy = sum(1 for pod in pods if condition_is(pod, "Ready"))
        expected = _expected(store, pods)
        if "maxUnavailable" in budget["spec"]:
            desired = max(0, expected - _amount(budget["spec"]["maxUnavailable"], expected))
        else:
            desired = _amount(budget["spec"].get("minAvailable", 1), expected)
        allowed = max(0, healthy - desired)
        reason = "SufficientPods" if allowed else "InsufficientPods"
        before = (budget.get("status") or {}).get("conditions") or [{}]
        stamp = before[0].get("lastTransitionTime", budget["metadata"]["creationTimestamp"])
        status = {
            "observedGeneration": budget["metadata"].get("generation", 1),
            "disruptionsAllowed": allowed,
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "expectedPods": expected,
            "conditions": [
                {
                    "type": "DisruptionAllowed",
                    "status": str(bool(allowed)),
                    "reason": reason,
                    "message": "",
                    "lastTransitionTime": stamp,
                    "observedGeneration": budget["metadata"].get("generation", 1),
                },
            ],
        }
        store.replace("poddisruptionbudgets.policy", {**budget, "status": status})
