"""Growing the healthy cluster into a store: workloads in the order of age, each at its own past time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

from lab.objects import Obj, owner_reference
from lab.registry import by_kind
from lab.seed import flux
from lab.seed.crds import definitions
from lab.seed.files import read_yaml_folder
from lab.seed.nodes import grow_node
from lab.seed.workloads import Compact, grow, has_kustomization
from lab.simulation.cluster import Cluster
from lab.simulation.deployments import new_replica_set, template_hash
from lab.simulation.pods import new_pod
from lab.simulation.world import read_program
from lab.times import parse_age, rfc3339

Travel = Callable[[datetime], AbstractContextManager[None]]
CONTROL_PLANE = "cp-1"
_SETTLING = (0, 4, 45, 100)
"""Seconds after planting at which the controllers look, until all is up."""


def store_object(cluster: Cluster, obj: Obj) -> Obj:
    """Adds a full object under the resource of its kind. Raises KeyError for a kind that is not served."""
    resource = by_kind(obj["apiVersion"], obj["kind"])
    if resource is None:
        raise KeyError(f"{obj['apiVersion']} {obj['kind']} is not served")
    return cluster.store.add(resource.storage, obj)


def _resolve_ages(value: Any, now: datetime) -> Any:
    """Replaces `<-6d>` in strings by the instant that long ago."""
    if isinstance(value, dict):
        return {key: _resolve_ages(item, now) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve_ages(item, now) for item in value]
    if isinstance(value, str) and value.startswith("<-") and value.endswith(">"):
        return rfc3339(now - parse_age(value[2:-1]))
    return value


def resolved(obj: Obj, now: datetime) -> Obj:
    """The object with every `<-age>` string turned into an instant."""
    found = _resolve_ages(obj, now)
    assert isinstance(found, dict)
    return found


def learn_programs(cluster: Cluster, item: Compact, now: datetime) -> None:
    """Tells the world how the workload's containers behave."""
    app = item.get("app", item["name"])
    for extra in [
        item,
        *(item.get("sidecars") or []),
        *({"container": i["name"], **i} for i in item.get("init") or []),
    ]:
        if "program" in extra:
            key = f"{item['namespace']}/{app}/{extra.get('container', 'app')}"
            cluster.world.programs[key] = read_program(extra["program"], now)


def plant_workload(cluster: Cluster, item: Compact, now: datetime) -> None:
    """Stores the objects of a compact workload; the controllers make its pods."""
    learn_programs(cluster, item, now)
    grown = grow(item, now)
    for obj in grown.beside:
        store_object(cluster, obj)
    if item.get("kind") == "Static":
        store_object(cluster, _mirror_pod(cluster, grown.controller, now - parse_age(item["pod_age"])))
        return
    if "cron" in item:
        cron = cluster.store.get("cronjobs.batch", item["namespace"], item["cron"])
        assert cron is not None
        grown.controller["metadata"]["ownerReferences"] = [owner_reference(cron)]
    controller = store_object(cluster, grown.controller)
    if "previous_image" in item:
        old = grow({**item, "image": item["previous_image"]}, now).controller
        old["metadata"] = controller["metadata"]
        before = now - parse_age(item.get("pod_age", "20d")) - timedelta(days=17)
        store_object(cluster, new_replica_set(old, 3, 0, before))


def _mirror_pod(cluster: Cluster, grown: Obj, at: datetime) -> Obj:
    """The API's copy of a static pod on the control plane."""
    node = cluster.store.get("nodes", "", CONTROL_PLANE)
    assert node is not None
    pod = new_pod(node, grown["spec"]["template"], grown["metadata"]["name"], at)
    digest = template_hash(grown["spec"]["template"])
    pod["metadata"] |= {
        "namespace": grown["metadata"]["namespace"],
        "annotations": {"kubernetes.io/config.mirror": digest, "kubernetes.io/config.source": "file"},
    }
    pod["spec"] |= {"nodeName": CONTROL_PLANE, "tolerations": [{"operator": "Exists", "effect": "NoExecute"}]}
    pod["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": rfc3339(at)}
    ]
    return pod


def _all_workloads(files: dict[str, Any]) -> list[Compact]:
    found = []
    for content in files.values():
        for item in content.get("workloads") or []:
            found.append({"namespace": content.get("namespace"), **item})
    return found


def plant(cluster: Cluster, now: datetime, until: datetime, travel: Travel) -> None:
    """The whole healthy cluster, with ages relative to `now`, lived up to `until`."""
    files = read_yaml_folder("lab.seed", "cluster")
    platform = files["platform"]
    for item in platform["nodes"]:
        for obj in grow_node(item, now, until):
            store_object(cluster, obj)
    for content in files.values():
        for obj in content.get("objects") or []:
            made = resolved(obj, now)
            made["metadata"].setdefault("creationTimestamp", rfc3339(now - timedelta(days=301)))
            if content.get("namespace"):
                made["metadata"].setdefault("namespace", content["namespace"])
            store_object(cluster, made)
    for obj in definitions(now):
        store_object(cluster, obj)
    workloads = _all_workloads(files)
    _plant_flux(cluster, platform["flux"], workloads, now)
    _plant_by_age(cluster, workloads, now, until, travel)


def _plant_by_age(
    cluster: Cluster, workloads: list[Compact], now: datetime, until: datetime, travel: Travel
) -> None:
    groups: dict[timedelta, list[Compact]] = defaultdict(list)
    for item in workloads:
        groups[parse_age(item.get("pod_age", "20d"))].append(item)
    for back in sorted(groups, reverse=True):
        at = now - back
        for item in groups[back]:
            plant_workload(cluster, item, now)
        for seconds in _SETTLING:
            moment = min(at + timedelta(seconds=seconds), until)
            with travel(moment):
                cluster.step(moment)
    with travel(until):
        cluster.step(until)


def _plant_flux(cluster: Cluster, spec: dict[str, Any], workloads: list[Compact], now: datetime) -> None:
    store_object(cluster, flux.git_repository(spec["url"], now))
    for name, url in spec["helm_repositories"].items():
        store_object(cluster, flux.helm_repository(name, url, now))
    apps = [item for item in workloads if has_kustomization(item)]
    entries = [f"flux-system_{item['name']}_kustomize.toolkit.fluxcd.io_Kustomization" for item in apps]
    store_object(
        cluster,
        flux.kustomization(
            "flux-system",
            "./kubernetes/flux",
            now,
            entries=["flux-system_cluster-apps_kustomize.toolkit.fluxcd.io_Kustomization"],
        ),
    )
    store_object(cluster, flux.kustomization("cluster-apps", "./kubernetes/apps", now, entries=entries))
    for item in apps:
        namespace, name = item["namespace"], item["name"]
        if item.get("chart"):
            inside = [f"{namespace}_{name}_helm.toolkit.fluxcd.io_HelmRelease"]
        else:
            kind = item.get("kind", "Deployment")
            inside = [f"{namespace}_{name}_{'batch' if kind == 'CronJob' else 'apps'}_{kind}"]
        path = f"./kubernetes/apps/{namespace}/{name}/app"
        depends = item.get("depends_on")
        store_object(
            cluster, flux.kustomization(name, path, now, target=namespace, depends=depends, entries=inside)
        )
        if item.get("chart"):
            store_object(cluster, flux.helm_release(item, now))
