"""The names of the hard limits, as an audit and a person know them, and how one is refused."""

from __future__ import annotations

from enum import StrEnum

from opswarm.errors import PermissionDenied


class Limit(StrEnum):
    PATH_SPELLING = "limit.path.spelling"
    PATH_GIT = "limit.path.git"
    PATH_ROOT = "limit.path.root"
    PATH_SYMLINK = "limit.path.symlink"
    PATH_SUBMODULE = "limit.path.submodule"
    BRANCH_SPELLING = "limit.branch.spelling"
    BRANCH_PROTECTED = "limit.branch.protected"
    BRANCH_PREFIX = "limit.branch.prefix"
    SELECTOR = "limit.object.selector"
    NAME = "limit.object.name"
    KIND = "limit.object.kind"
    VERB = "limit.verb"
    SECRET = "limit.secret"
    NAMESPACE_SPELLING = "limit.namespace.spelling"
    NAMESPACE_PROTECTED = "limit.namespace.protected"
    OBJECT_PROTECTED = "limit.object.protected"
    CLUSTER_SCOPED = "limit.object.cluster_scoped"
    SCALE = "limit.scale"


def denied(limit: Limit, sentence: str, hint: str = "") -> PermissionDenied:
    return PermissionDenied(sentence, hint=hint, rule=limit.value)
