"""Who is asking, and what they may do: bearer tokens and a small RBAC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.objects import Obj
from lab.requests import ResourceRequest
from lab.status import ApiError, forbidden, unauthorized


@dataclass(frozen=True)
class Rule:
    """One allow rule. `*` stands for anything; `namespaces` is empty for every scope."""

    verbs: Sequence[str]
    resources: Sequence[str]
    groups: Sequence[str] = ("",)
    namespaces: Sequence[str] = ()
    names: Sequence[str] = ()

    def allows(self, verb: str, group: str, resource: str, namespace: str, name: str) -> bool:
        if self.namespaces and namespace not in self.namespaces:
            return False
        if self.names and name not in self.names:
            return False
        return _has(self.verbs, verb) and _has(self.groups, group) and self._covers(resource)

    def _covers(self, resource: str) -> bool:
        wild = f"*/{resource.partition('/')[2]}"
        return _has(self.resources, resource) or ("/" in resource and wild in self.resources)


def _has(listed: Sequence[str], wanted: str) -> bool:
    return "*" in listed or wanted in listed


@dataclass(frozen=True)
class RbacUser:
    """A caller: its name, its groups, and the rules that allow; what no rule allows is forbidden."""

    username: str
    rules: Sequence[Rule] = ()
    groups: Sequence[str] = ("system:authenticated",)

    def may(self, verb: str, group: str, resource: str, namespace: str = "", name: str = "") -> bool:
        return any(rule.allows(verb, group, resource, namespace, name) for rule in self.rules)


ADMIN = RbacUser(
    "kubernetes-admin", (Rule(("*",), ("*",), ("*",)),), ("system:masters", "system:authenticated")
)


class Access:
    """The known tokens."""

    def __init__(self, users: Mapping[str, RbacUser]) -> None:
        self._users = dict(users)

    def authenticate(self, authorization: str | None) -> RbacUser:
        """The caller that an Authorization header proves. Raises 401."""
        scheme, _, token = (authorization or "").partition(" ")
        user = self._users.get(token.strip()) if scheme.lower() == "bearer" else None
        if user is None:
            raise unauthorized()
        return user


def denial(user: RbacUser, request: ResourceRequest) -> str:
    """Why a request is refused, in the words of the RBAC authorizer."""
    where = f'in the namespace "{request.namespace}"' if request.namespace else "at the cluster scope"
    return (
        f'User "{user.username}" cannot {request.verb} resource "{request.resource_text}" '
        f'in API group "{request.resource.group}" {where}'
    )


def authorize(user: RbacUser, request: ResourceRequest) -> None:
    """Returns if the request is allowed. Raises 403."""
    group = request.resource.group
    if not user.may(request.verb, group, request.resource_text, request.namespace, request.name):
        raise forbidden(request.resource, request.name, denial(user, request))


def authorize_path(user: RbacUser, verb: str, path: str) -> None:
    """Discovery, health and version are open to every authenticated caller; other paths to administrators."""
    if path.split("/")[1] in ("api", "apis", "version", "healthz", "livez", "readyz", "openapi", ""):
        return
    if not user.may("*", "*", "*"):
        raise ApiError(403, "Forbidden", f'forbidden: User "{user.username}" cannot {verb} path "{path}"', {})


def rules_of(user: RbacUser, namespace: str) -> list[Obj]:
    """The rules that hold in a namespace, as SelfSubjectRulesReview lists them."""
    rules: list[Obj] = []
    for rule in user.rules:
        if rule.namespaces and namespace not in rule.namespaces:
            continue
        item: Obj = {
            "verbs": list(rule.verbs),
            "apiGroups": list(rule.groups),
            "resources": list(rule.resources),
        }
        if rule.names:
            item["resourceNames"] = list(rule.names)
        rules.append(item)
    return rules
