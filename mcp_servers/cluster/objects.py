"""The one object that an action is about: found by kind and name, written to with our key, and looked at again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from mcp_servers.cluster.access import Right, require
from mcp_servers.cluster.answers import Refused
from mcp_servers.cluster.connection import MERGE_PATCH, Cluster, segment
from mcp_servers.cluster.resources import Resource, Resources
from opswarm.actions.action import Happened, Intent
from opswarm.errors import InvalidInput, NotFound
from opswarm.guard.limits import PROTECTED_NAMESPACES, ROOT_OBJECTS
from opswarm.guard.targets import Target, check_target
from opswarm.mcp.text import one_line

KEY = "opswarm.dev/action"
"""The annotation that holds the idempotency key of the action that last changed an object."""

APPLIED_KEY = "opswarm.dev/applied"
"""The same of the last apply. An annotation of its own: what a patch set, an apply would have to take by force."""

MANAGER = {"fieldManager": "opswarm"}
"""On every write: who the changed fields belong to."""

Name = Annotated[str, Field(description="Exact name.", max_length=253)]
Namespace = Annotated[str, Field(description="The one namespace.", max_length=63)]


@dataclass(frozen=True, slots=True)
class Found:
    """One object as it is, and how the API serves its kind."""

    resource: Resource
    obj: Mapping[str, Any]

    @property
    def meta(self) -> Mapping[str, Any]:
        return self.obj.get("metadata") or {}

    @property
    def name(self) -> str:
        return str(self.meta.get("name") or "")

    @property
    def namespace(self) -> str:
        return str(self.meta.get("namespace") or "")

    @property
    def uid(self) -> str:
        return str(self.meta.get("uid") or "")

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.meta.get("annotations") or {}

    @property
    def labels(self) -> Mapping[str, str]:
        return self.meta.get("labels") or {}

    @property
    def spec(self) -> Mapping[str, Any]:
        return self.obj.get("spec") or {}

    @property
    def status(self) -> Mapping[str, Any]:
        return self.obj.get("status") or {}

    @property
    def path(self) -> str:
        return self.resource.path(self.namespace, self.name)

    @property
    def controller(self) -> Mapping[str, Any] | None:
        """The reference to what controls it, if anything does."""
        return next((r for r in self.meta.get("ownerReferences") or () if r.get("controller")), None)

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.resource.kind} {where}{self.name}"

    def target(self, verb: str, **more: Any) -> Target:
        return _target(self.resource, verb, self.namespace, self.name, **more)

    def state(self, **more: Any) -> dict[str, Any]:
        """What a later step needs to find exactly this object again, with `more`."""
        before = self.annotations.get(KEY, "")
        return {"path": self.path, "object": str(self), "uid": self.uid, "key_before": before, **more}


class Objects:
    """Finding objects of one cluster, for actions."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.cluster = resources.cluster

    async def find(self, verb: str, kind: str, name: str, namespace: str = "") -> Found:
        """The object that `verb` is to be done to. What the hard limits forbid is refused before it is read.

        Raises `InvalidInput`, `NotFound` and `PermissionDenied`.
        """
        resource = await self.resources.find(kind)
        if resource.namespaced and not namespace:
            raise InvalidInput(f"A {resource.kind} is in a namespace, and none was given.", hint="Name it.")
        check_target(_target(resource, verb, namespace, name), PROTECTED_NAMESPACES, ROOT_OBJECTS)
        try:
            return await self.read(resource, namespace, name)
        except NotFound as error:
            if namespace:
                await self.resources.check_namespace(namespace)
            where = f" in the namespace {namespace}" if namespace else ""
            raise NotFound(f"There is no {resource.kind} '{name}'{where}.", hint="`find` searches by word.") from error

    async def read(self, resource: Resource, namespace: str, name: str) -> Found:
        """The object under this name, whatever it is for. Raises `NotFound`."""
        obj = (await self.cluster.get(resource.path(namespace, name))).json()
        return Found(resource, {"kind": resource.kind, **obj})

    async def require(self, found: Found, verb: str, subresource: str = "") -> None:
        """Raises `PermissionDenied` when RBAC does not let us do this to the object."""
        right = Right(found.resource.group, found.resource.plural, verb, subresource)
        await require(self.cluster, (right,), found.namespace, found.name)


def _target(resource: Resource, verb: str, namespace: str, name: str, **more: Any) -> Target:
    return Target(verb, resource.kind, name, namespace, namespaced=resource.namespaced, **more)


async def look(cluster: Cluster, intent: Intent) -> Mapping[str, Any] | None:
    """The object of an intent as it is now; None when it is gone or another has its name."""
    return await look_at(cluster, str(intent.state["path"]), str(intent.state["uid"]))


async def look_at(cluster: Cluster, path: str, uid: str) -> Mapping[str, Any] | None:
    """The object at `path` if it still has this uid."""
    try:
        obj = (await cluster.get(path)).json()
    except NotFound:
        return None
    return obj if (obj.get("metadata") or {}).get("uid") == uid else None


async def patch(cluster: Cluster, intent: Intent, change: Mapping[str, Any]) -> Mapping[str, Any]:
    """Merges `change` into the intent's object together with its key, if it is still the one that was planned.

    Raises `InvalidInput` when it is another object by now, and what `Cluster.patch` raises.
    """
    metadata = dict(change.get("metadata") or {})
    metadata["uid"] = intent.state["uid"]
    metadata["annotations"] = {**(metadata.get("annotations") or {}), KEY: intent.key}
    return await written(cluster, intent, {**change, "metadata": metadata}, MERGE_PATCH)


async def written(
    cluster: Cluster, intent: Intent, body: Mapping[str, Any] | list[Any], kind: str
) -> Mapping[str, Any]:
    """Sends any patch to the intent's object. Raises as `patch` does."""
    try:
        return await cluster.patch(str(intent.state["path"]), body, MANAGER, kind=kind)
    except Refused as error:
        raise changed(intent, error) from error


def changed(intent: Intent, error: Refused) -> InvalidInput:
    """The error of a refused write, in words where it says that the object is not the one that was planned."""
    if not error.is_other_object:
        return error
    return InvalidInput(
        f"{intent.state['object']} was replaced or changed in the meantime; nothing was done.", hint="Plan it again."
    )


async def probe(cluster: Cluster, intent: Intent, annotation: str = KEY) -> Happened:
    """Whether the object carries the intent's key: written by the same patch as the effect."""
    obj = await look(cluster, intent)
    if obj is None:
        return Happened.UNKNOWN
    key = ((obj.get("metadata") or {}).get("annotations") or {}).get(annotation, "")
    if key == intent.key:
        return Happened.YES
    # Another action has overwritten the key since: ours may have been there before.
    return Happened.NO if key == intent.state["key_before"] else Happened.UNKNOWN


def said(value: Any) -> str:
    """A word or sentence from the cluster, on one line."""
    return one_line(str(value))[:200]


def pod_path(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{segment(namespace)}/pods/{segment(name)}"
