"""Endpoints and EndpointSlices of services with a selector, from the pods that are ready."""

from __future__ import annotations

from lab.objects import (
    Obj,
    condition_is,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    owner_reference,
    uid_of,
)
from lab.store import Store


def _port_number(pod: Obj, target: str | int) -> int | None:
    if isinstance(target, int):
        return target
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or []:
            if port.get("name") == target:
                return int(port["containerPort"])
    return None


def _ports(service: Obj, pods: list[Obj]) -> list[Obj]:
    found = []
    for port in service["spec"].get("ports") or []:
        target = port.get("targetPort", port["port"])
        number = next((n for pod in pods if (n := _port_number(pod, target)) is not None), None)
        if number is not None:
            found.append(
                {"name": port.get("name", ""), "port": number, "protocol": port.get("protocol", "TCP")}
            )
    return found


def _selected(store: Store, service: Obj) -> list[Obj]:
    wanted = service["spec"]["selector"].items()
    return [
        pod
        for pod in store.all("pods", namespace_of(service))
        if all(labels_of(pod).get(key) == value for key, value in wanted)
        and pod["status"].get("podIP")
        and pod["status"].get("phase") not in ("Succeeded", "Failed")
    ]


def _target(pod: Obj) -> Obj:
    return {"kind": "Pod", "namespace": namespace_of(pod), "name": name_of(pod), "uid": uid_of(pod)}


def _slice(service: Obj, pods: list[Obj]) -> Obj:
    entries = []
    for pod in pods:
        up, going = condition_is(pod, "Ready"), is_deleting(pod)
        entries.append(
            {
                "addresses": [pod["status"]["podIP"]],
                "conditions": {"ready": up and not going, "serving": up, "terminating": going},
                "nodeName": pod["spec"]["nodeName"],
                "targetRef": _target(pod),
            }
        )
    labels = {
        **labels_of(service),
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "kubernetes.io/service-name": name_of(service),
    }
    if service["spec"].get("clusterIP") == "None":
        labels["service.kubernetes.io/headless"] = ""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name_of(service)}-{uid_of(service)[:5]}",
            "generateName": f"{name_of(service)}-",
            "namespace": namespace_of(service),
            "labels": labels,
            "ownerReferences": [owner_reference(service)],
        },
        "addressType": "IPv4",
        "endpoints": entries,
        "ports": _ports(service, pods),
    }


def _endpoints(service: Obj, pods: list[Obj]) -> Obj:
    groups: dict[str, list[Obj]] = {"addresses": [], "notReadyAddresses": []}
    for pod in pods:
        if is_deleting(pod):
            continue
        entry = {"ip": pod["status"]["podIP"], "nodeName": pod["spec"]["nodeName"], "targetRef": _target(pod)}
        groups["addresses" if condition_is(pod, "Ready") else "notReadyAddresses"].append(entry)
    found: Obj = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": name_of(service),
            "namespace": namespace_of(service),
            "labels": {**labels_of(service), "endpoints.kubernetes.io/managed-by": "endpoint-controller"},
        },
    }
    listed = {key: value for key, value in groups.items() if value}
    if listed:
        found["subsets"] = [{**listed, "ports": _ports(service, pods)}]
    return found


def step(store: Store) -> None:
    """Writes the endpoints of every service that has a selector."""
    for service in store.all("services"):
        if not service["spec"].get("selector"):
            continue
        pods = _selected(store, service)
        for storage, made in (
            ("endpoints", _endpoints(service, pods)),
            ("endpointslices.discovery.k8s.io", _slice(service, pods)),
        ):
            before = store.get(storage, namespace_of(made), name_of(made))
            if before is None:
                made["metadata"]["creationTimestamp"] = service["metadata"]["creationTimestamp"]
                store.add(storage, made)
                continue
            kept = {k: v for k, v in before["metadata"].items() if k not in made["metadata"]}
            store.replace(storage, {**made, "metadata": {**made["metadata"], **kept}})
