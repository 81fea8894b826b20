"""Tables of nodes, services, storage, configuration and events."""

from __future__ import annotations

from datetime import datetime

from lab.objects import Obj, is_deleting, labels_of, name_of
from lab.tables.columns import Cell, Columns, listed
from lab.times import age, parse_instant, rfc3339

_ROLE = "node-role.kubernetes.io/"
_MODES = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


def _born(obj: Obj, now: datetime) -> str:
    return age(obj["metadata"].get("creationTimestamp"), now)


def _node(obj: Obj, now: datetime) -> list[Cell]:
    words = []
    for item in obj["status"].get("conditions") or []:
        if item["type"] == "Ready":
            words.append("Ready" if item["status"] == "True" else "NotReady")
    words = words or ["Unknown"]
    if obj["spec"].get("unschedulable"):
        words.append("SchedulingDisabled")
    roles = sorted(key.removeprefix(_ROLE) for key in labels_of(obj) if key.startswith(_ROLE))
    addresses = {item["type"]: item["address"] for item in obj["status"].get("addresses") or []}
    info = obj["status"]["nodeInfo"]
    return [
        name_of(obj),
        ",".join(words),
        listed(roles),
        _born(obj, now),
        info["kubeletVersion"],
        addresses.get("InternalIP", "<none>"),
        addresses.get("ExternalIP", "<none>"),
        info["osImage"],
        info["kernelVersion"],
        info["containerRuntimeVersion"],
    ]


def _service(obj: Obj, now: datetime) -> list[Cell]:
    spec = obj["spec"]
    ports = []
    for item in spec.get("ports") or []:
        node_port = f":{item['nodePort']}" if item.get("nodePort") else ""
        ports.append(f"{item['port']}{node_port}/{item.get('protocol', 'TCP')}")
    external = "<none>"
    if spec["type"] == "LoadBalancer":
        ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        external = listed([item.get("ip") or item.get("hostname") for item in ingress], "<pending>")
    elif spec["type"] == "ExternalName":
        external = spec["externalName"]
    selector = listed([f"{key}={value}" for key, value in sorted((spec.get("selector") or {}).items())])
    return [
        name_of(obj),
        spec["type"],
        spec.get("clusterIP") or "<none>",
        external,
        listed(ports),
        _born(obj, now),
        selector,
    ]


def _addresses(obj: Obj) -> str:
    found = [
        f"{address['ip']}:{port['port']}"
        for subset in obj.get("subsets") or []
        for address in subset.get("addresses") or []
        for port in subset.get("ports") or []
    ]
    return f"{','.join(found[:3])} + {len(found) - 3} more..." if len(found) > 3 else listed(found)


def _slice(obj: Obj, now: datetime) -> list[Cell]:
    ports = listed([item["port"] for item in obj.get("ports") or []], "<unset>")
    addresses = [one for item in obj.get("endpoints") or [] for one in item["addresses"]]
    shown = (
        f"{','.join(addresses[:3])} + {len(addresses) - 3} more..."
        if len(addresses) > 3
        else listed(addresses, "<unset>")
    )
    return [name_of(obj), obj["addressType"], ports, shown, _born(obj, now)]


def _ingress(obj: Obj, now: datetime) -> list[Cell]:
    hosts = [rule.get("host", "*") for rule in obj["spec"].get("rules") or []]
    ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    ports = "80, 443" if obj["spec"].get("tls") else "80"
    return [
        name_of(obj),
        obj["spec"].get("ingressClassName") or "<none>",
        listed(hosts, "*"),
        listed([item.get("ip") or item.get("hostname") for item in ingress], ""),
        ports,
        _born(obj, now),
    ]


def _modes(spec_or_status: Obj) -> str:
    return ",".join(_MODES.get(mode, mode) for mode in spec_or_status.get("accessModes") or [])


def _claim(obj: Obj, now: datetime) -> list[Cell]:
    status, spec = obj.get("status") or {}, obj["spec"]
    bound = bool(spec.get("volumeName"))
    return [
        name_of(obj),
        "Terminating" if is_deleting(obj) else status.get("phase", "Pending"),
        spec.get("volumeName", ""),
        (status.get("capacity") or {}).get("storage", "") if bound else "",
        _modes(status) if bound else "",
        spec.get("storageClassName", ""),
        "<unset>",
        _born(obj, now),
        spec.get("volumeMode", "Filesystem"),
    ]


def _volume(obj: Obj, now: datetime) -> list[Cell]:
    spec, claim = obj["spec"], obj["spec"].get("claimRef") or {}
    owner = f"{claim['namespace']}/{claim['name']}" if claim else ""
    return [
        name_of(obj),
        spec["capacity"]["storage"],
        _modes(spec),
        spec["persistentVolumeReclaimPolicy"],
        obj["status"]["phase"],
        owner,
        spec.get("storageClassName", ""),
        "<unset>",
        "",
        _born(obj, now),
        spec.get("volumeMode", "Filesystem"),
    ]


def _storage_class(obj: Obj, now: datetime) -> list[Cell]:
    default = (obj["metadata"].get("annotations") or {}).get("storageclass.kubernetes.io/is-default-class")
    name = f"{name_of(obj)} (default)" if default == "true" else name_of(obj)
    return [
        name,
        obj["provisioner"],
        obj.get("reclaimPolicy", "Delete"),
        obj.get("volumeBindingMode", "Immediate"),
        str(bool(obj.get("allowVolumeExpansion"))).lower(),
        _born(obj, now),
    ]


def _namespace(obj: Obj, now: datetime) -> list[Cell]:
    return [name_of(obj), (obj.get("status") or {}).get("phase", "Active"), _born(obj, now)]


def _config_map(obj: Obj, now: datetime) -> list[Cell]:
    return [name_of(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), _born(obj, now)]


def _secret(obj: Obj, now: datetime) -> list[Cell]:
    return [name_of(obj), obj.get("type", "Opaque"), len(obj.get("data") or {}), _born(obj, now)]


def _service_account(obj: Obj, now: datetime) -> list[Cell]:
    return [name_of(obj), len(obj.get("secrets") or []), _born(obj, now)]


def _quota(obj: Obj, now: datetime) -> list[Cell]:
    status = obj.get("status") or {}
    used = status.get("used") or {}
    pairs = [f"{key}: {used.get(key, 0)}/{hard}" for key, hard in sorted((status.get("hard") or {}).items())]
    plain = [pair for pair in pairs if not pair.startswith("limits.")]
    limits = [pair for pair in pairs if pair.startswith("limits.")]
    return [name_of(obj), ", ".join(plain), ", ".join(limits), _born(obj, now)]


def _event(obj: Obj, now: datetime) -> list[Cell]:
    last = obj.get("lastTimestamp") or obj.get("eventTime")
    first = obj.get("firstTimestamp") or last
    seen, count = age(last, now), int(obj.get("count") or 1)
    shown = f"{seen} (x{count} over {age(first, now)})" if count > 1 else seen
    about = obj["involvedObject"]
    source = ", ".join(
        filter(None, ((obj.get("source") or {}).get("component"), (obj.get("source") or {}).get("host")))
    )
    return [
        shown,
        obj.get("type"),
        obj.get("reason"),
        f"{about['kind'].lower()}/{about.get('name', '')}",
        str(obj.get("message", "")).strip(),
        about.get("fieldPath", ""),
        source,
        age(first, now),
        count,
        name_of(obj),
    ]


def _lease(obj: Obj, now: datetime) -> list[Cell]:
    return [name_of(obj), obj["spec"].get("holderIdentity", ""), _born(obj, now)]


def _class(obj: Obj, now: datetime) -> list[Cell]:
    return [name_of(obj), obj["spec"]["controller"], "<none>", _born(obj, now)]


def _definition(obj: Obj, now: datetime) -> list[Cell]:
    return [name_of(obj), rfc3339(parse_instant(obj["metadata"]["creationTimestamp"]))]


def _api_service(obj: Obj, now: datetime) -> list[Cell]:
    service = obj["spec"].get("service")
    where = f"{service['namespace']}/{service['name']}" if service else "Local"
    up: Obj = next((c for c in obj["status"]["conditions"] if c["type"] == "Available"), {})
    shown = up.get("status", "Unknown")
    return [
        name_of(obj),
        where,
        shown if shown == "True" else f"{shown} ({up.get('reason')})",
        _born(obj, now),
    ]


def _role(obj: Obj, now: datetime) -> list[Cell]:
    return [name_of(obj), rfc3339(parse_instant(obj["metadata"]["creationTimestamp"]))]


def _binding(obj: Obj, now: datetime) -> list[Cell]:
    return [name_of(obj), f"{obj['roleRef']['kind']}/{obj['roleRef']['name']}", _born(obj, now)]


INFRASTRUCTURE = {
    "nodes": Columns(
        ("Name", "Status", "Roles", "Age", "Version"),
        ("Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime"),
        _node,
    ),
    "services": Columns(
        ("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"), ("Selector",), _service
    ),
    "endpoints": Columns(
        ("Name", "Endpoints", "Age"), (), lambda obj, now: [name_of(obj), _addresses(obj), _born(obj, now)]
    ),
    "endpointslices.discovery.k8s.io": Columns(
        ("Name", "AddressType", "Ports", "Endpoints", "Age"), (), _slice
    ),
    "ingresses.networking.k8s.io": Columns(
        ("Name", "Class", "Hosts", "Address", "Ports", "Age"), (), _ingress
    ),
    "ingressclasses.networking.k8s.io": Columns(("Name", "Controller", "Parameters", "Age"), (), _class),
    "persistentvolumeclaims": Columns(
        (
            "Name",
            "Status",
            "Volume",
            "Capacity",
            "Access Modes",
            "StorageClass",
            "VolumeAttributesClass",
            "Age",
        ),
        ("VolumeMode",),
        _claim,
    ),
    "persistentvolumes": Columns(
        (
            "Name",
            "Capacity",
            "Access Modes",
            "Reclaim Policy",
            "Status",
            "Claim",
            "StorageClass",
            "VolumeAttributesClass",
            "Reason",
            "Age",
        ),
        ("VolumeMode",),
        _volume,
    ),
    "storageclasses.storage.k8s.io": Columns(
        ("Name", "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"),
        (),
        _storage_class,
    ),
    "namespaces": Columns(("Name", "Status", "Age"), (), _namespace),
    "configmaps": Columns(("Name", "Data", "Age"), (), _config_map, frozenset({"Data"})),
    "secrets": Columns(("Name", "Type", "Data", "Age"), (), _secret, frozenset({"Data"})),
    "serviceaccounts": Columns(("Name", "Secrets", "Age"), (), _service_account, frozenset({"Secrets"})),
    "resourcequotas": Columns(("Name", "Request", "Limit", "Age"), (), _quota),
    "events": Columns(
        ("Last Seen", "Type", "Reason", "Object", "Message"),
        ("Subobject", "Source", "First Seen", "Count", "Name"),
        _event,
        frozenset({"Count"}),
    ),
    "leases.coordination.k8s.io": Columns(("Name", "Holder", "Age"), (), _lease),
    "customresourcedefinitions.apiextensions.k8s.io": Columns(("Name", "Created At"), (), _definition),
    "apiservices.apiregistration.k8s.io": Columns(("Name", "Service", "Available", "Age"), (), _api_service),
    "clusterroles.rbac.authorization.k8s.io": Columns(("Name", "Created At"), (), _role),
    "roles.rbac.authorization.k8s.io": Columns(("Name", "Created At"), (), _role),
    "clusterrolebindings.rbac.authorization.k8s.io": Columns(("Name", "Role", "Age"), (), _binding),
    "rolebindings.rbac.authorization.k8s.io": Columns(("Name", "Role", "Age"), (), _binding),
}
