"""Resource quotas: the check at admission, and the usage in their status."""

from __future__ import annotations

from fractions import Fraction

from lab.objects import Obj, name_of, namespace_of
from lab.quantities import amount_text, parse_quantity
from lab.registry import by_key
from lab.status import ApiError, forbidden
from lab.store import Store

_TERMINAL = ("Failed", "Succeeded")


def pod_totals(pod: Obj) -> dict[str, Fraction]:
    """What one pod counts for: `pods`, and `requests.*` and `limits.*` of cpu and memory."""
    totals = {"pods": Fraction(1)}
    for container in pod["spec"]["containers"]:
        for kind in ("requests", "limits"):
            resources = container.get("resources") or {}
            # A limit without a request requests the limit.
            for resource, amount in (resources.get(kind) or resources.get("limits") or {}).items():
                key = f"{kind}.{resource}"
                totals[key] = totals.get(key, Fraction(0)) + parse_quantity(amount)
    return totals


def used(store: Store, namespace: str, keys: list[str]) -> dict[str, Fraction]:
    """What the namespace's living pods use of each quota key."""
    sums = dict.fromkeys(keys, Fraction(0))
    for pod in store.all("pods", namespace):
        if pod["status"].get("phase") in _TERMINAL:
            continue
        for key, amount in pod_totals(pod).items():
            if key in sums:
                sums[key] += amount
    return sums


def quota_refusal(store: Store, pod: Obj) -> ApiError | None:
    """The 403 that a new pod meets when it goes over a quota, else None."""
    totals = pod_totals(pod)
    for quota in store.all("resourcequotas", namespace_of(pod)):
        hard = {key: parse_quantity(value) for key, value in quota["spec"]["hard"].items()}
        now = used(store, namespace_of(pod), list(hard))
        over = [key for key in sorted(hard) if key in totals and now[key] + totals[key] > hard[key]]
        if over:
            parts = [
                f"{word}: {','.join(f'{key}={amount_text(key, amounts[key])}' for key in over)}"
                for word, amounts in (("requested", totals), ("used", now), ("limited", hard))
            ]
            why = f"exceeded quota: {name_of(quota)}, {', '.join(parts)}"
            return forbidden(by_key("pods"), name_of(pod), why)
    return None


def update_quotas(store: Store) -> None:
    """Writes what is used into the status of every quota."""
    for quota in store.all("resourcequotas"):
        hard = quota["spec"]["hard"]
        now = used(store, namespace_of(quota), list(hard))
        status = {"hard": hard, "used": {key: amount_text(key, now[key]) for key in hard}}
        store.replace("resourcequotas", {**quota, "status": status})
