"""RBAC rights, and asking the API server whether we have them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mcp_servers.cluster.connection import Cluster
from opswarm.errors import PermissionDenied

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one resource, as an RBAC rule grants it. `resource` is the plural."""

    group: str
    resource: str
    verb: str
    subresource: str = ""

    def __str__(self) -> str:
        plain = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {plain}{'/' + self.subresource if self.subresource else ''}"


async def require(cluster: Cluster, rights: Iterable[Right], namespace: str, name: str = "") -> None:
    """Returns when we have every one of these rights there. Raises `PermissionDenied` naming the first that is missing.

    `name` is the object that it is about; "" for all of the namespace, and `namespace` "" for the whole cluster.
    """
    for right in rights:
        wanted = {
            "verb": right.verb, "group": right.group, "resource": right.resource, "subresource": right.subresource,
            "namespace": namespace, "name": name,
        }  # fmt: skip
        attributes = {key: value for key, value in wanted.items() if value or key == "group"}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = await cluster.post(_REVIEWS, review)
        if (answer.get("status") or {}).get("allowed") is not True:
            where = f"in the namespace {namespace}" if namespace else "in the whole cluster"
            raise PermissionDenied(
                f"The cluster's RBAC does not let this tool server {right} {where}{f' ({name})' if name else ''}.",
                hint="Grant it to the tool server's user or service account.",
            )
