"""Every resource the lab's cluster serves, as one table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

STANDARD = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
READ = ("get", "list")


@dataclass(frozen=True)
class Resource:
    """One served resource. `storage` names where its objects live, where two groups serve the same ones."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = STANDARD
    subresources: tuple[str, ...] = ()
    shared_storage: str = ""
    custom: bool = False

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """`pods`, `deployments.apps`: the name in messages, and the key in the store."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def storage(self) -> str:
        return self.shared_storage or self.qualified


def _core() -> Iterator[Resource]:
    def core(kind: str, plural: str, *short: str, **more: object) -> Resource:
        return Resource("", "v1", kind, plural, short=short, **more)  # type: ignore[arg-type]

    everywhere = {"categories": ("all",)}
    yield core("ConfigMap", "configmaps", "cm")
    yield core("Endpoints", "endpoints", "ep")
    yield core("Event", "events", "ev")
    yield core("LimitRange", "limitranges", "limits")
    yield core(
        "Namespace",
        "namespaces",
        "ns",
        namespaced=False,
        subresources=("finalize", "status"),
        verbs=tuple(v for v in STANDARD if v != "deletecollection"),
    )
    yield core("Node", "nodes", "no", namespaced=False, subresources=("status",))
    yield core("PersistentVolumeClaim", "persistentvolumeclaims", "pvc", subresources=("status",))
    yield core("PersistentVolume", "persistentvolumes", "pv", namespaced=False, subresources=("status",))
    yield core("Pod", "pods", "po", subresources=("eviction", "log", "status"), **everywhere)
    yield core("PodTemplate", "podtemplates")
    yield core(
        "ReplicationController",
        "replicationcontrollers",
        "rc",
        subresources=("scale", "status"),
        **everywhere,
    )
    yield core("ResourceQuota", "resourcequotas", "quota", subresources=("status",))
    yield core("Secret", "secrets")
    yield core("ServiceAccount", "serviceaccounts", "sa")
    yield core("Service", "services", "svc", subresources=("status",), **everywhere)


def _workloads() -> Iterator[Resource]:
    scaled, plain, everywhere = ("scale", "status"), ("status",), ("all",)
    yield Resource("apps", "v1", "ControllerRevision", "controllerrevisions")
    yield Resource(
        "apps", "v1", "DaemonSet", "daemonsets", short=("ds",), categories=everywhere, subresources=plain
    )
    yield Resource(
        "apps",
        "v1",
        "Deployment",
        "deployments",
        short=("deploy",),
        categories=everywhere,
        subresources=scaled,
    )
    yield Resource(
        "apps", "v1", "ReplicaSet", "replicasets", short=("rs",), categories=everywhere, subresources=scaled
    )
    yield Resource(
        "apps",
        "v1",
        "StatefulSet",
        "statefulsets",
        short=("sts",),
        categories=everywhere,
        subresources=scaled,
    )
    yield Resource(
        "batch", "v1", "CronJob", "cronjobs", short=("cj",), categories=everywhere, subresources=plain
    )
    yield Resource("batch", "v1", "Job", "jobs", categories=everywhere, subresources=plain)
    yield Resource(
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        short=("hpa",),
        categories=everywhere,
        subresources=plain,
    )
    yield Resource(
        "policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", short=("pdb",), subresources=plain
    )


def _cluster() -> Iterator[Resource]:
    status = ("status",)
    networking, rbac, storage = "networking.k8s.io", "rbac.authorization.k8s.io", "storage.k8s.io"
    yield Resource(networking, "v1", "IngressClass", "ingressclasses", namespaced=False)
    yield Resource(networking, "v1", "Ingress", "ingresses", short=("ing",), subresources=status)
    yield Resource(networking, "v1", "NetworkPolicy", "networkpolicies", short=("netpol",))
    yield Resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
    yield Resource("events.k8s.io", "v1", "Event", "events", short=("ev",), shared_storage="events")
    yield Resource(storage, "v1", "StorageClass", "storageclasses", namespaced=False, short=("sc",))
    yield Resource(rbac, "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False)
    yield Resource(rbac, "v1", "ClusterRole", "clusterroles", namespaced=False)
    yield Resource(rbac, "v1", "RoleBinding", "rolebindings")
    yield Resource(rbac, "v1", "Role", "roles")
    yield Resource(
        "scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", namespaced=False, short=("pc",)
    )
    yield Resource("coordination.k8s.io", "v1", "Lease", "leases")
    yield Resource(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        namespaced=False,
        short=("crd", "crds"),
        categories=("api-extensions",),
        subresources=status,
    )
    yield Resource(
        "apiregistration.k8s.io",
        "v1",
        "APIService",
        "apiservices",
        namespaced=False,
        categories=("api-extensions",),
        subresources=status,
    )


def _answers() -> Iterator[Resource]:
    """Resources that are computed for each request and never stored."""
    ask = ("create",)
    authorization, metrics = "authorization.k8s.io", "metrics.k8s.io"
    yield Resource("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", False, verbs=ask)
    yield Resource(
        authorization, "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", False, verbs=ask
    )
    yield Resource(authorization, "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", False, verbs=ask)
    yield Resource(metrics, "v1beta1", "NodeMetrics", "nodes", False, verbs=READ)
    yield Resource(metrics, "v1beta1", "PodMetrics", "pods", verbs=READ)


def _flux() -> Iterator[Resource]:
    def flux(area: str, version: str, kind: str, plural: str, *short: str) -> Resource:
        role = {"source": "sources", "notification": "notifications"}.get(area, "appliers")
        return Resource(
            f"{area}.toolkit.fluxcd.io",
            version,
            kind,
            plural,
            short=short,
            custom=True,
            categories=("all", "fluxcd", f"fluxcd-{role}"),
            subresources=("status",),
        )

    yield flux("kustomize", "v1", "Kustomization", "kustomizations", "ks")
    yield flux("helm", "v2", "HelmRelease", "helmreleases", "hr")
    yield flux("source", "v1", "Bucket", "buckets")
    yield flux("source", "v1", "ExternalArtifact", "externalartifacts", "ea")
    yield flux("source", "v1", "GitRepository", "gitrepositories", "gitrepo")
    yield flux("source", "v1", "HelmChart", "helmcharts", "hc")
    yield flux("source", "v1", "HelmRepository", "helmrepositories", "helmrepo")
    yield flux("source", "v1", "OCIRepository", "ocirepositories", "ocirepo")
    yield flux("notification", "v1beta3", "Alert", "alerts")
    yield flux("notification", "v1beta3", "Provider", "providers")
    yield flux("notification", "v1", "Receiver", "receivers")


def _custom() -> Iterator[Resource]:
    """Kinds of operators that the lab does not simulate: they are as a scenario leaves them."""
    yield Resource(
        "cert-manager.io",
        "v1",
        "Certificate",
        "certificates",
        short=("cert", "certs"),
        custom=True,
        categories=("cert-manager",),
        subresources=("status",),
    )
    yield Resource(
        "volsync.backube",
        "v1alpha1",
        "ReplicationSource",
        "replicationsources",
        custom=True,
        subresources=("status",),
    )


RESOURCES: tuple[Resource, ...] = (*_core(), *_workloads(), *_cluster(), *_answers(), *_flux(), *_custom())

_BY_PATH = {(item.group, item.version, item.plural): item for item in RESOURCES}
_BY_KIND = {(item.api_version, item.kind): item for item in RESOURCES}
_BY_KEY = {item.qualified: item for item in RESOURCES}


def by_path(group: str, version: str, plural: str) -> Resource | None:
    """What `/apis/{group}/{version}/{plural}` serves, if anything."""
    return _BY_PATH.get((group, version, plural))


def by_kind(api_version: str, kind: str) -> Resource | None:
    return _BY_KIND.get((api_version, kind))


def by_key(key: str) -> Resource:
    """The resource of a qualified name such as `deployments.apps`. Raises KeyError."""
    return _BY_KEY[key]


def versions() -> dict[str, list[str]]:
    """The served versions of each group, in discovery order."""
    found: dict[str, list[str]] = {}
    for item in RESOURCES:
        listed = found.setdefault(item.group, [])
        if item.version not in listed:
            listed.append(item.version)
    return found
