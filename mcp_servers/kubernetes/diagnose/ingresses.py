"""Ingresses whose backend is not there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from mcp_servers.cluster.finding import Evidence, Finding, ObjectRef, Severity
from mcp_servers.kubernetes.diagnose.fields import Obj, at, mapping, name_of, namespace_of, rows, text
from mcp_servers.kubernetes.diagnose.snapshot import Snapshot, ref_of

_CLASSES = "ingressclasses.networking.k8s.io"
_DEFAULT = "ingressclass.kubernetes.io/is-default-class"


def backends(ingress: Obj) -> Iterator[tuple[str, Obj]]:
    """Every Service backend, with the host and path that lead to it."""
    default = mapping(ingress, "spec", "defaultBackend", "service")
    if default:
        yield "default backend", default
    for rule in rows(ingress, "spec", "rules"):
        for path in rows(rule, "http", "paths"):
            if service := mapping(path, "backend", "service"):
                yield f"{text(rule, 'host') or '*'}{text(path, 'path') or '/'}", service


def broken_backends(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Ingress rules whose Service or port does not exist. Nothing is said when services were not listed."""
    found: list[Finding] = []
    for ingress in snapshot.kind("Ingress") if snapshot.listed("services") else ():
        seen: set[str] = set()
        for where, backend in backends(ingress):
            name = text(backend, "name")
            port = text(backend, "port", "name") or text(backend, "port", "number")
            if f"{name}:{port}" in seen:
                continue
            seen.add(f"{name}:{port}")
            service = snapshot.get("Service", namespace_of(ingress), name)
            if service is None:
                found.append(_no_service(snapshot, ingress, where, name, port))
            elif port and not _has_port(service, backend):
                found.append(_no_port(ingress, service, where, port))
    return found


def _has_port(service: Obj, backend: Obj) -> bool:
    if text(service, "spec", "type") == "ExternalName" and not rows(service, "spec", "ports"):
        return True
    number, name = at(backend, "port", "number"), text(backend, "port", "name")
    ports = rows(service, "spec", "ports")
    return any(port.get("name") == name if name else port.get("port") == number for port in ports)


def _names(services: list[Obj]) -> str:
    return ", ".join(sorted(map(name_of, services))[:8]) or "none"


def _no_service(snapshot: Snapshot, ingress: Obj, where: str, name: str, port: str) -> Finding:
    services = snapshot.kind("Service", namespace=namespace_of(ingress))
    return Finding(
        ref_of(ingress),
        Severity.HIGH,
        f"requests to {where} are answered with an error",
        "BackendServiceMissing",
        f"the Ingress sends {where} to the Service {name}, which does not exist",
        (
            Evidence(f"ingress {name_of(ingress)} rule", f"{where} -> service {name}:{port}"),
            Evidence(f"services in {namespace_of(ingress)}", _names(services)),
        ),
        "Correct the backend's service name, or create the Service.",
    )


def _no_port(ingress: Obj, service: Obj, where: str, port: str) -> Finding:
    have = ", ".join(
        f"{text(one, 'name') or '-'}:{text(one, 'port')}" for one in rows(service, "spec", "ports")
    )
    return Finding(
        ref_of(ingress),
        Severity.HIGH,
        f"requests to {where} are answered with an error",
        "BackendPortMissing",
        f"the Ingress sends {where} to port {port} of Service {name_of(service)}, which has no such port",
        (
            Evidence(f"ingress {name_of(ingress)} rule", f"{where} -> service {name_of(service)}:{port}"),
            Evidence(f"service {name_of(service)} ports", have or "none"),
        ),
        "Correct the backend's port to one of the Service.",
    )


def missing_certificates(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """TLS Secrets that do not exist; only known when Secrets were listed."""
    found: list[Finding] = []
    if not snapshot.kind("Secret") or not snapshot.listed("secrets"):
        return found
    for ingress in snapshot.kind("Ingress"):
        for tls in rows(ingress, "spec", "tls"):
            name = text(tls, "secretName")
            if not name or snapshot.get("Secret", namespace_of(ingress), name) is not None:
                continue
            hosts = ", ".join(map(str, tls.get("hosts") or ())) or "all hosts"
            found.append(
                Finding(
                    ref_of(ingress),
                    Severity.MEDIUM,
                    "browsers get the controller's default certificate and warn",
                    "TLSSecretMissing",
                    f"the Ingress names the TLS Secret {name}, which does not exist",
                    (Evidence(f"ingress {name_of(ingress)} tls", f"{hosts} -> secret {name}"),),
                    "Create the Secret; if cert-manager makes it, look at the Certificate of the same name.",
                )
            )
    return found


def missing_classes(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Ingresses whose class does not exist, or that have none where none is the default. Only known when classes
    were listed; the older `kubernetes.io/ingress.class` annotation needs no object of its name."""
    classes = snapshot.kind("IngressClass")
    if not snapshot.listed(_CLASSES) or not (classes or _CLASSES in snapshot.complete):
        return []
    default = any(text(one, "metadata", "annotations", _DEFAULT) == "true" for one in classes)
    found: list[Finding] = []
    for ingress in snapshot.kind("Ingress"):
        name = text(ingress, "spec", "ingressClassName")
        old = text(ingress, "metadata", "annotations", "kubernetes.io/ingress.class")
        taken = bool(rows(ingress, "status", "loadBalancer", "ingress"))
        if name and snapshot.get("IngressClass", "", name) is None:
            found.append(_no_class(ingress, name, classes, taken))
        elif classes and not (name or old or default or taken):
            found.append(_unset_class(ingress, classes))
    return found


def _no_class(ingress: Obj, name: str, classes: list[Obj], taken: bool) -> Finding:
    return Finding(
        ref_of(ingress),
        Severity.MEDIUM if taken else Severity.HIGH,
        "a controller took it before, but none is bound to it by its class now"
        if taken
        else "no controller takes it up, so its hosts are not served",
        "IngressClassMissing",
        f"the Ingress names the class {name}, which does not exist",
        (
            Evidence(f"ingress {name_of(ingress)} ingressClassName", name),
            Evidence("ingress classes in the cluster", _names(classes)),
        ),
        "Correct ingressClassName to a class of the cluster, or install the controller that brings this one.",
    )


def _unset_class(ingress: Obj, classes: list[Obj]) -> Finding:
    return Finding(
        ref_of(ingress),
        Severity.INFO,
        "some controllers take Ingresses without a class, others leave them",
        "IngressClassUnset",
        "the Ingress has no class, no class is the default, and no controller has given it an address",
        (Evidence("ingress classes in the cluster", _names(classes)),),
        "Set ingressClassName, or mark a class as the default.",
    )


def routes(snapshot: Snapshot) -> dict[ObjectRef, list[ObjectRef]]:
    """The Ingresses that lead to each Service."""
    found: dict[ObjectRef, list[ObjectRef]] = {}
    for ingress in snapshot.kind("Ingress"):
        for name in dict.fromkeys(text(backend, "name") for _, backend in backends(ingress)):
            found.setdefault(ObjectRef("Service", namespace_of(ingress), name), []).append(ref_of(ingress))
    return found
