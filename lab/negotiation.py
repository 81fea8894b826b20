"""What form of an answer the Accept header asks for."""

from __future__ import annotations

from dataclasses import dataclass

from lab.status import not_acceptable

JSON = "application/json"
_SERVED = (JSON, "application/yaml", "application/vnd.kubernetes.protobuf")


@dataclass(frozen=True)
class Form:
    """`kind` is empty for the object itself, else Table, PartialObjectMetadata(List), or another."""

    kind: str = ""
    group: str = ""
    version: str = ""

    @property
    def content_type(self) -> str:
        if self.kind == "APIGroupDiscoveryList":
            return f"{JSON};g={self.group};v={self.version};as={self.kind}"
        return JSON


_KNOWN = {
    ("Table", "meta.k8s.io", "v1"),
    ("PartialObjectMetadata", "meta.k8s.io", "v1"),
    ("PartialObjectMetadataList", "meta.k8s.io", "v1"),
    ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2"),
    ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2beta1"),
}


def read_accept(header: str) -> Form:
    """The first form of the header that the lab can send. Raises 406."""
    if not header.strip():
        return Form()
    for part in header.split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        if media not in (JSON, "*/*", "application/*", "application/json-seq"):
            continue
        given = dict(piece.split("=", 1) for piece in parameters if "=" in piece)
        if "as" not in given:
            return Form()
        form = Form(given["as"], given.get("g", ""), given.get("v", ""))
        if (form.kind, form.group, form.version) in _KNOWN:
            return form
    raise not_acceptable(_SERVED)
