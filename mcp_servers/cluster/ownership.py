"""Whose an object is: Flux and Argo CD leave their names on what they keep as Git says."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_servers.cluster.objects import Found, said
from mcp_servers.cluster.resources import Resources
from opswarm.errors import OpswarmError

_HELM = "helm.toolkit.fluxcd.io"
_KUSTOMIZE = "kustomize.toolkit.fluxcd.io"
_TRACKING = "argocd.argoproj.io/tracking-id"
_INSTANCE = "app.kubernetes.io/instance"


@dataclass(frozen=True, slots=True)
class Owner:
    """What applies an object from Git: a Kustomization or HelmRelease of Flux's, or an Application of Argo CD's."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"

    @property
    def by(self) -> str:
        return "Argo CD" if self.kind == "Application" else "Flux"

    def puts_back(self, what: str) -> str:
        """A line that says what becomes of a change that is not made in Git."""
        when = {
            "Kustomization": "at its next reconciliation",
            "HelmRelease": "at its next upgrade, or sooner where it corrects drift",
        }.get(self.kind, "at its next sync")
        return f"{self.by} ({self}) applies this from Git and puts {what} back {when} if Git says otherwise."


def owner_of(found: Found) -> Owner | None:
    """What keeps `found` as Git says, as far as the object itself tells."""
    labels = found.labels
    for group, kind in ((_HELM, "HelmRelease"), (_KUSTOMIZE, "Kustomization")):
        name, namespace = labels.get(f"{group}/name"), labels.get(f"{group}/namespace")
        if name and namespace:
            return Owner(kind, said(namespace), said(name))
    if tracked := found.annotations.get(_TRACKING):
        return Owner("Application", "", said(tracked.partition(":")[0]))
    managers = (str(m.get("manager")) for m in found.meta.get("managedFields") or ())
    if labels.get(_INSTANCE) and any(m.startswith("argocd") for m in managers):
        return Owner("Application", "", said(labels[_INSTANCE]))
    return None


async def source_of(resources: Resources, owner: Owner) -> str:
    """Where in Git `owner` takes it from, as a sentence; "" where that can't be read."""
    try:
        if owner.kind == "HelmRelease":
            release = await _read(resources, f"helmreleases.{_HELM}", owner)
            above = owner_of(release)
            if above is None or above.kind != "Kustomization":
                return ""
            return f"The HelmRelease is in {above}. {await source_of(resources, above)}".strip()
        if owner.kind == "Kustomization":
            spec = (await _read(resources, f"kustomizations.{_KUSTOMIZE}", owner)).spec
            source = spec.get("sourceRef") or {}
            where = f"{source.get('kind')} {source.get('namespace') or owner.namespace}/{source.get('name')}"
            return f"Its files are at {said(spec.get('path') or './')} of {said(where)}."
    except OpswarmError:
        return ""  # What can't be read is left out: the refusal stands without it.
    return ""


async def _read(resources: Resources, kind: str, owner: Owner) -> Found:
    resource = await resources.find(kind)
    return Found(resource, (await resources.cluster.get(resource.path(owner.namespace, owner.name))).json())
