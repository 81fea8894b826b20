"""The kinds of Flux: their API groups, the controllers that look after them, and the names people use for them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from opswarm.errors import InvalidInput
from opswarm.mcp.text import cell

_TOOLKIT = "toolkit.fluxcd.io"


@dataclass(frozen=True, slots=True)
class FluxKind:
    """One kind. `controller` is the Deployment that reconciles it, `family` groups kinds that are listed together."""

    kind: str
    plural: str
    group: str
    controller: str
    family: str
    short: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        return f"{self.plural}.{self.group}"

    @property
    def names(self) -> tuple[str, ...]:
        return (self.kind.lower(), self.plural, *self.short)


def _kinds(group: str, controller: str, family: str, *named: str) -> tuple[FluxKind, ...]:
    split = (one.split() for one in named)
    return tuple(FluxKind(kind, plural, group, controller, family, tuple(short)) for kind, plural, *short in split)


KINDS: tuple[FluxKind, ...] = (
    *_kinds(f"kustomize.{_TOOLKIT}", "kustomize-controller", "apply", "Kustomization kustomizations ks"),
    *_kinds(f"helm.{_TOOLKIT}", "helm-controller", "apply", "HelmRelease helmreleases hr"),
    *_kinds(
        f"source.{_TOOLKIT}", "source-controller", "sources",
        "GitRepository gitrepositories gitrepo", "OCIRepository ocirepositories ocirepo",
        "HelmRepository helmrepositories helmrepo", "HelmChart helmcharts hc", "Bucket buckets",
    ),
    *_kinds(f"source.{_TOOLKIT}", "source-watcher", "sources", "ExternalArtifact externalartifacts ea"),
    *_kinds(
        f"image.{_TOOLKIT}", "image-reflector-controller", "images",
        "ImageRepository imagerepositories imgrepo", "ImagePolicy imagepolicies imgpol",
    ),
    *_kinds(
        f"image.{_TOOLKIT}", "image-automation-controller", "images",
        "ImageUpdateAutomation imageupdateautomations iua",
    ),
    *_kinds(
        f"notification.{_TOOLKIT}", "notification-controller", "notifications",
        "Alert alerts", "Provider providers", "Receiver receivers",
    ),
    *_kinds("fluxcd.controlplane.io", "flux-operator", "instance", "FluxInstance fluxinstances"),
)  # fmt: skip

BY_KIND = {one.kind: one for one in KINDS}
FAMILIES = tuple(dict.fromkeys(one.family for one in KINDS))
SOURCES = tuple(one.kind for one in KINDS if one.family == "sources")
APPLIERS = ("Kustomization", "HelmRelease")
OPTIONAL = frozenset(one.kind for one in KINDS if one.family in ("images", "instance")) | {"ExternalArtifact"}
"""Kinds that many clusters do without."""

STATELESS = frozenset({"Alert", "Provider"})
"""Kinds that have no status: they are read when an event is sent."""


def kind_named(name: str) -> FluxKind:
    """The Flux kind that a kind, plural or short name stands for. Raises `InvalidInput` with those there are."""
    wanted = name.strip().lower().partition(".")[0]
    for one in KINDS:
        if wanted in one.names:
            return one
    every = [n for one in KINDS for n in one.names]
    close = difflib.get_close_matches(wanted, every, n=1)
    hint = f"Did you mean {close[0]}?" if close else f"Flux has: {', '.join(one.kind for one in KINDS)}."
    raise InvalidInput(f"'{cell(name)}' is no kind of Flux's.", hint=hint)


def kinds_named(name: str) -> tuple[FluxKind, ...]:
    """The kinds of a family ("" for every kind), or the one kind of this name. Raises `InvalidInput`."""
    wanted = name.strip().lower()
    if not wanted:
        return KINDS
    family = tuple(one for one in KINDS if wanted in (one.family, one.family.removesuffix("s")))
    return family or (kind_named(name),)
