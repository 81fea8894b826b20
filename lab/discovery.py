"""Discovery: which groups, versions and resources there are, in the old form and the aggregated one."""

from __future__ import annotations

from lab.objects import Obj
from lab.registry import RESOURCES, Resource, versions
from lab.status import unknown_path

SERVER_VERSION: Obj = {
    "major": "1",
    "minor": "34",
    "emulationMajor": "1",
    "emulationMinor": "34",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "33",
    "gitVersion": "v1.34.2",
    "gitCommit": "8cc511e399b929453cd98ae65b419c3cc227ec79",
    "gitTreeState": "clean",
    "buildDate": "2025-11-11T19:03:28Z",
    "goVersion": "go1.24.9",
    "compiler": "gc",
    "platform": "linux/amd64",
}

_SUBRESOURCE_KINDS = {
    "scale": ("autoscaling", "v1", "Scale", ("get", "patch", "update")),
    "eviction": ("policy", "v1", "Eviction", ("create",)),
    "log": ("", "v1", "Pod", ("get",)),
}


def _sub(resource: Resource, name: str) -> tuple[str, str, str, tuple[str, ...]]:
    own = (resource.group, resource.version, resource.kind, ("get", "patch", "update"))
    return _SUBRESOURCE_KINDS.get(name, own)


def _entry(group: str, version: str) -> Obj:
    return {"groupVersion": f"{group}/{version}" if group else version, "version": version}


def _group(group: str, listed: list[str]) -> Obj:
    return {
        "name": group,
        "versions": [_entry(group, version) for version in listed],
        "preferredVersion": _entry(group, listed[0]),
    }


def core_versions() -> Obj:
    """/api"""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "192.168.10.11:6443"}],
    }


def group_list() -> Obj:
    """/apis"""
    groups = [_group(group, listed) for group, listed in versions().items() if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(name: str) -> Obj:
    """/apis/{group}. Raises 404."""
    listed = versions().get(name)
    if not name or not listed:
        raise unknown_path()
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, listed)}


def resource_list(group: str, version: str) -> Obj:
    """/api/v1 and /apis/{group}/{version}. Raises 404."""
    found: list[Obj] = []
    for item in RESOURCES:
        if (item.group, item.version) != (group, version):
            continue
        entry: Obj = {
            "name": item.plural,
            "singularName": item.singular if "metrics" not in group else "",
            "namespaced": item.namespaced,
            "kind": item.kind,
            "verbs": list(item.verbs),
        }
        if item.short:
            entry["shortNames"] = list(item.short)
        if item.categories:
            entry["categories"] = list(item.categories)
        found.append(entry)
        for name in item.subresources:
            sub_group, sub_version, kind, verbs = _sub(item, name)
            sub: Obj = {"name": f"{item.plural}/{name}", "singularName": "", "namespaced": item.namespaced}
            if (sub_group, sub_version) != (group, version):
                sub |= {"group": sub_group, "version": sub_version}
            found.append({**sub, "kind": kind, "verbs": list(verbs)})
    if not found:
        raise unknown_path()
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": found}


def _aggregated_resource(item: Resource) -> Obj:
    entry: Obj = {
        "resource": item.plural,
        "responseKind": {"group": item.group, "version": item.version, "kind": item.kind},
        "scope": "Namespaced" if item.namespaced else "Cluster",
        "singularResource": item.singular if "metrics" not in item.group else "",
        "verbs": list(item.verbs),
    }
    if item.short:
        entry["shortNames"] = list(item.short)
    if item.categories:
        entry["categories"] = list(item.categories)
    if item.subresources:
        entry["subresources"] = []
        for name in item.subresources:
            sub_group, sub_version, kind, verbs = _sub(item, name)
            entry["subresources"].append(
                {
                    "subresource": name,
                    "responseKind": {"group": sub_group, "version": sub_version, "kind": kind},
                    "verbs": list(verbs),
                }
            )
    return entry


def aggregated(version: str, *, core: bool) -> Obj:
    """The APIGroupDiscoveryList of /api (core) or /apis, in `v2` or `v2beta1`."""
    items = []
    for name, listed in versions().items():
        if (name == "") is not core:
            continue
        shown = [
            {
                "version": one,
                "resources": [
                    _aggregated_resource(r) for r in RESOURCES if (r.group, r.version) == (name, one)
                ],
                "freshness": "Current",
            }
            for one in listed
        ]
        items.append({"metadata": {"name": name, "creationTimestamp": None}, "versions": shown})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }
