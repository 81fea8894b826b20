"""What an object asks for beyond a plain workload's rights: for that a person is always asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any

_HOST = ("hostNetwork", "hostPID", "hostIPC")

_PLAIN_KINDS = frozenset(
    {
        "ConfigMap", "Service", "PersistentVolumeClaim", "Pod", "ReplicationController", "Deployment", "StatefulSet",
        "DaemonSet", "ReplicaSet", "Job", "CronJob", "HorizontalPodAutoscaler", "Ingress", "NetworkPolicy",
        "PodDisruptionBudget", "LimitRange", "ResourceQuota",
    }
)  # fmt: skip
"""Built-in kinds that do no more than they say, beside their pods."""

_POD = frozenset(
    {
        "activeDeadlineSeconds", "affinity", "automountServiceAccountToken", "containers", "dnsConfig", "dnsPolicy",
        "enableServiceLinks", "ephemeralContainers", "hostAliases", "hostUsers", "hostname", "hostnameOverride",
        "imagePullSecrets", "initContainers", "nodeSelector", "os", "overhead", "preemptionPolicy", "priority",
        "readinessGates", "resources", "restartPolicy", "schedulingGates", "setHostnameAsFQDN",
        "shareProcessNamespace", "subdomain", "terminationGracePeriodSeconds", "tolerations",
        "topologySpreadConstraints",
        # Looked at by themselves:
        "hostIPC", "hostNetwork", "hostPID", "nodeName", "priorityClassName", "schedulerName", "securityContext",
        "serviceAccount", "serviceAccountName", "volumes",
    }
)  # fmt: skip
"""Fields of a pod's spec (Kubernetes 1.34) that give it nothing of the node's. Those that it will have one day are not
among them, so that they are asked about. The bounds are those of the Pod Security Standards' "baseline"."""

_CONTAINER = frozenset(
    {
        "args", "command", "env", "envFrom", "image", "imagePullPolicy", "lifecycle", "livenessProbe", "name", "ports",
        "readinessProbe", "resizePolicy", "resources", "restartPolicy", "restartPolicyRules", "securityContext",
        "startupProbe", "stdin", "stdinOnce", "targetContainerName", "terminationMessagePath",
        "terminationMessagePolicy", "tty", "volumeMounts", "workingDir",
    }
)  # fmt: skip
_CONTEXT = frozenset(
    {"appArmorProfile", "runAsGroup", "runAsNonRoot", "runAsUser", "seLinuxOptions", "seccompProfile", "windowsOptions"}
)
_POD_CONTEXT = _CONTEXT | {
    "fsGroup", "fsGroupChangePolicy", "seLinuxChangePolicy", "supplementalGroups", "supplementalGroupsPolicy",
    "sysctls",
}  # fmt: skip
_CONTAINER_CONTEXT = _CONTEXT | {
    "allowPrivilegeEscalation", "capabilities", "privileged", "procMount", "readOnlyRootFilesystem",
}  # fmt: skip
_VOLUMES = frozenset(
    {"configMap", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"}
)
_SELINUX = (None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_syncookies",
    }
)  # fmt: skip
_CONFINING = ("container.apparmor.security.beta.kubernetes.io/", "seccomp.security.alpha.kubernetes.io/",
              "container.seccomp.security.alpha.kubernetes.io/")  # fmt: skip


def privileges(obj: Mapping[str, Any]) -> list[str]:
    """Sentences about each such request of an object, in a fixed order; empty where there is none."""
    found, spec = set(_of_object(obj)), _pod_spec(obj)
    if spec:
        found |= {*_of_pod(spec), *_of_template(_map(_template(obj).get("metadata")))}
    return sorted(found)


def gained(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Sentences about what the pods of `after` have beyond those of `before`."""
    found = [one for one in privileges(after) if one not in privileges(before)]
    if service_account(after) != service_account(before):
        found.append(f"Its pods get the rights of the ServiceAccount {service_account(after)}.")
    if more := sorted(set(secrets(after)) - set(secrets(before))):
        found.append(f"What it runs reads Secrets: {', '.join(more)}.")
    return found


def service_account(obj: Mapping[str, Any]) -> str:
    """The ServiceAccount whose rights the object's pods have; "" where it has no pods."""
    spec = _pod_spec(obj)
    return str(spec.get("serviceAccountName") or spec.get("serviceAccount") or "default") if spec else ""


def secrets(obj: Mapping[str, Any]) -> list[str]:
    """The names of the Secrets that the object's pods are given, and "a token" where they are given one, in order."""
    return sorted(set(_secrets(_pod_spec(obj))))


def runs_other(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether the pods of `after` are not those of `before`."""
    return _pod_spec(before) != _pod_spec(after)


def _secrets(spec: Mapping[str, Any]) -> Iterator[str]:
    for volume in _maps(spec.get("volumes")):
        given = [volume, *_maps(_map(volume.get("projected")).get("sources"))]
        for source in given:
            if secret := _map(source.get("secret")):
                yield str(secret.get("secretName") or secret.get("name"))
            if "serviceAccountToken" in source:
                yield "a token"
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for container in _maps(spec.get(field)):
            for env in _maps(container.get("env")):
                if ref := _map(_map(env.get("valueFrom")).get("secretKeyRef")):
                    yield str(ref.get("name"))
            for env in _maps(container.get("envFrom")):
                if ref := _map(env.get("secretRef")):
                    yield str(ref.get("name"))


def _pod_spec(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    return _map(_template(obj).get("spec"))


def _template(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """What has the pods' metadata and spec: the pod itself, a workload's template, or a CronJob's."""
    if obj.get("kind") == "Pod":
        return obj
    if obj.get("kind") == "PodTemplate":
        return _map(obj.get("template"))
    spec = _map(obj.get("spec"))
    if obj.get("kind") == "CronJob":
        spec = _map(_map(spec.get("jobTemplate")).get("spec"))
    return _map(spec.get("template"))


def _of_object(obj: Mapping[str, Any]) -> Iterator[str]:
    kind, spec = str(obj.get("kind")), _map(obj.get("spec"))
    if kind not in _PLAIN_KINDS:
        yield f"A {kind} is no plain workload: others act on what it says."
    if kind == "Service" and spec.get("externalIPs"):
        yield "It takes traffic that is meant for other addresses (externalIPs)."
    if kind == "Service" and spec.get("type") == "ExternalName":
        yield f"It sends who calls it elsewhere: {spec.get('externalName')} (ExternalName)."
    if kind == "Ingress":
        for name in _map(_map(obj.get("metadata")).get("annotations")):
            if "snippet" in name:
                yield f"It writes configuration of the ingress controller ({name})."


def _of_template(metadata: Mapping[str, Any]) -> Iterator[str]:
    for name, value in _map(metadata.get("annotations")).items():
        if name.startswith(_CONFINING) and "unconfined" in str(value).lower():
            yield f"Its containers are not confined ({name})."


def _of_pod(spec: Mapping[str, Any]) -> Iterator[str]:
    for field in _HOST:
        if spec.get(field):
            yield f"Its pods share the node's {field.removeprefix('host')} ({field})."
    if spec.get("nodeName"):
        yield f"Its pods are put on the node {spec['nodeName']} past the scheduler (nodeName)."
    if str(spec.get("priorityClassName") or "").startswith("system-"):
        yield f"Its pods push others off their nodes ({spec['priorityClassName']})."
    if spec.get("schedulerName") not in (None, "", "default-scheduler"):
        yield f"Its pods have another scheduler: {spec['schedulerName']}."
    yield from _others(spec, _POD, "Its pods have")
    context = _map(spec.get("securityContext"))
    yield from _of_context("Its pods", context, _POD_CONTEXT)
    for sysctl in _maps(context.get("sysctls")):
        if sysctl.get("name") not in _SYSCTLS:
            yield f"Its pods set the kernel's {sysctl.get('name')} (sysctls)."
    for volume in _maps(spec.get("volumes")):
        if "hostPath" in volume:
            yield f"Its pods reach into the node's files at {_map(volume['hostPath']).get('path')} (hostPath)."
        for kind in volume.keys() - _VOLUMES - {"name", "hostPath"}:
            if volume[kind] is not None:
                yield f"Its pods mount {volume.get('name')} from outside ({kind})."
    for field in ("containers", "initContainers", "ephemeralContainers"):
        for container in _maps(spec.get(field)):
            yield from _of_container(str(container.get("name")), container)


def _of_container(name: str, container: Mapping[str, Any]) -> Iterator[str]:
    context = _map(container.get("securityContext"))
    if context.get("privileged"):
        yield f"Container {name} is privileged: it has the node's rights."
    added = _map(context.get("capabilities")).get("add")
    if isinstance(added, list) and added:
        yield f"Container {name} adds capabilities: {', '.join(map(str, added))}."
    if context.get("procMount") not in (None, "", "Default"):
        yield f"Container {name} sees the node's /proc unmasked."
    yield from _of_context(f"Container {name}", context, _CONTAINER_CONTEXT)
    yield from _others(container, _CONTAINER, f"Container {name} has")
    for port in _maps(container.get("ports")):
        if port.get("hostPort"):
            yield f"Container {name} takes the node's port {port['hostPort']} (hostPort)."
    hooks = _map(container.get("lifecycle"))
    for probe in (*(container.get(f"{one}Probe") for one in ("liveness", "readiness", "startup")), *hooks.values()):
        for way in ("httpGet", "tcpSocket"):
            if host := _map(_map(probe).get(way)).get("host"):
                yield f"Container {name} has the node call {host} (a probe's or hook's host)."


def _of_context(whose: str, context: Mapping[str, Any], plain: Set[str]) -> Iterator[str]:
    """What a pod's and a container's security context have in common."""
    for field in ("seccompProfile", "appArmorProfile"):
        if _map(context.get(field)).get("type") == "Unconfined":
            yield f"{whose} runs unconfined ({field})."
    selinux = _map(context.get("seLinuxOptions"))
    if selinux.get("user") or selinux.get("role") or selinux.get("type") not in _SELINUX:
        yield f"{whose} has another SELinux label (seLinuxOptions)."
    if _map(context.get("windowsOptions")).get("hostProcess"):
        yield f"{whose} runs as a process of the node (hostProcess)."
    yield from _others(context, plain, f"{whose} has")


def _others(fields: Mapping[str, Any], plain: Set[str], whose: str) -> Iterator[str]:
    """What is set and not known to be harmless."""
    for field in sorted(fields.keys() - plain):
        if fields[field]:
            yield f"{whose} {field}, which is not known to be harmless."


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _maps(value: Any) -> Iterator[Mapping[str, Any]]:
    yield from (item for item in (value if isinstance(value, list) else ()) if isinstance(item, Mapping))
