"""The questions a caller can ask about itself: who am I, may I, what may I."""

from __future__ import annotations

from lab.access import RbacUser, rules_of
from lab.objects import Obj
from lab.status import bad_request

_OPEN = [
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
    "/version/",
]


def answer(user: RbacUser, plural: str, body: Obj) -> Obj:
    """The review with its status filled in. Raises 400."""
    if plural == "selfsubjectreviews":
        return _who(user)
    spec = body.get("spec")
    if not isinstance(spec, dict):
        raise bad_request("spec is required")
    if plural == "selfsubjectrulesreviews":
        return _rules(user, spec)
    return _access(user, spec, body)


def _who(user: RbacUser) -> Obj:
    return {
        "kind": "SelfSubjectReview",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {},
        "status": {"userInfo": {"username": user.username, "groups": list(user.groups)}},
    }


def _rules(user: RbacUser, spec: Obj) -> Obj:
    return {
        "kind": "SelfSubjectRulesReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {},
        "spec": {"namespace": spec.get("namespace", "")},
        "status": {
            "resourceRules": rules_of(user, spec.get("namespace", "")),
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": _OPEN}],
            "incomplete": False,
        },
    }


def _access(user: RbacUser, spec: Obj, body: Obj) -> Obj:
    wanted, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if (wanted is None) == (path is None):
        raise bad_request("exactly one of nonResourceAttributes or resourceAttributes must be specified")
    if wanted is not None:
        plural, sub = wanted.get("resource", ""), wanted.get("subresource", "")
        allowed = user.may(
            wanted.get("verb", ""),
            wanted.get("group", ""),
            f"{plural}/{sub}" if sub else plural,
            wanted.get("namespace", ""),
            wanted.get("name", ""),
        )
    else:
        assert path is not None
        allowed = (path.get("verb") == "get" and path.get("path") in _OPEN) or user.may("*", "*", "*")
    status: Obj = {"allowed": allowed}
    if allowed and user.may("*", "*", "*"):
        status["reason"] = (
            'RBAC: allowed by ClusterRoleBinding "cluster-admin" of ClusterRole "cluster-admin"'
        )
    return {
        "kind": "SelfSubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": body.get("metadata") or {},
        "spec": spec,
        "status": status,
    }
