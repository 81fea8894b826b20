"""The disruption controller: how many pods of a budget may be evicted now."""

from __future__ import annotations

from lab import selectors
from lab.objects import Obj, condition_is, labels_of, namespace_of
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


def update_budgets(store: Store) -> None:
    for budget in store.all("poddisruptionbudgets.policy"):
        pods = covered(store, budget)
        healthy = sum(1 for pod in pods if condition_is(pod, "Ready"))
        if "maxUnavailable" in budget["spec"]:
            desired = max(0, len(pods) - _amount(budget["spec"]["maxUnavailable"], len(pods)))
        else:
            desired = _amount(budget["spec"].get("minAvailable", 1), len(pods))
        allowed = max(0, healthy - desired)
        reason = "SufficientPods" if allowed else "InsufficientPods"
        before = (budget.get("status") or {}).get("conditions") or [{}]
        stamp = before[0].get("lastTransitionTime", budget["metadata"]["creationTimestamp"])
        status = {
            "observedGeneration": budget["metadata"].get("generation", 1),
            "disruptionsAllowed": allowed,
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "expectedPods": len(pods),
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
