"""Creating, changing and deleting objects."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lab.defaults import fill
from lab.events import as_stored
from lab.managers import Manager, applied, signed
from lab.objects import Obj, is_deleting, meta, name_of, namespace_of, uid_of
from lab.patches import APPLY, apply_patch
from lab.registry import RESOURCES, Resource, by_key
from lab.requests import ResourceRequest, is_true
from lab.schemas import check_applied, check_strictly
from lab.simulation.pods import admitted_spec, qos_class, suffix
from lab.simulation.quota import quota_refusal
from lab.simulation.replicasets import mark_deleted
from lab.status import (
    ApiError,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    not_found,
    success,
)
from lab.store import Store
from lab.times import rfc3339
from lab.validation import check

_STALE = "the object has been modified; please apply your changes to the latest version and try again"
_CASCADE = tuple(
    item for item in RESOURCES if item.namespaced and not item.shared_storage and "list" in item.verbs
)
_POLICIES = ("Background", "Foreground", "Orphan")
_SERVER_OWNED = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")


@dataclass(frozen=True)
class WriteOptions:
    """`dry` stores nothing; `manager` is named in managedFields; `force` takes fields in an `apply`.

    `strict` refuses fields that are not known.
    """

    dry: bool
    manager: str
    apply: bool = False
    force: bool = False
    strict: bool = False


def read_write_options(query: Mapping[str, str], user_agent: str, media: str = "") -> WriteOptions:
    """The options of a write whose body is of the type `media`. Raises 400 and 422."""
    dry = query.get("dryRun", "")
    if dry not in ("", "All"):
        raise bad_request(
            f'Invalid value: "{dry}": dryRun: Unsupported value: "{dry}": supported values: "All"'
        )
    manager, force = query.get("fieldManager", ""), is_true(query, "force")
    apply = media.split(";")[0].strip() == APPLY
    if apply and not manager:
        raise _bad_options("FieldValueRequired", "Required value: is required for apply patch", "fieldManager")
    if force and not apply:
        raise _bad_options("FieldValueForbidden", "Forbidden: may not be specified for non-apply patch", "force")
    strict = query.get("fieldValidation") == "Strict"
    return WriteOptions(dry == "All", manager or user_agent.split("/")[0] or "unknown", apply, force, strict)


def _bad_options(reason: str, message: str, field: str) -> ApiError:
    causes = [{"reason": reason, "message": message, "field": field}]
    details: Obj = {"group": "meta.k8s.io", "kind": "PatchOptions", "causes": causes}
    return ApiError(422, "Invalid", f'PatchOptions.meta.k8s.io "" is invalid: {field}: {message}', details)


def default_policy(resource: Resource) -> str:
    """What becomes of an object's dependents when a delete does not say: batch/v1 Jobs leave their pods behind."""
    return "Orphan" if resource.qualified == "jobs.batch" else "Background"


class Writer:
    def __init__(self, store: Store, rng: random.Random) -> None:
        self._store, self._rng = store, rng

    def get(self, resource: Resource, namespace: str, name: str) -> Obj:
        """The stored object. Raises 404."""
        found = self._store.get(resource.storage, namespace, name)
        if found is None:
            raise not_found(resource, name)
        return found

    def create(self, request: ResourceRequest, body: Obj, options: WriteOptions, now: datetime) -> Obj:
        """Stores what the client sent. Raises 400, 403, 404, 409 and 422."""
        resource = request.resource
        self._check_type(resource, body)
        if options.strict and not options.apply:
            check_strictly(body)
        obj = copy.deepcopy(as_stored(body, resource))
        metadata: Obj = obj.setdefault("metadata", {})
        for key in ("uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "generation"):
            metadata.pop(key, None)
        self._place(request, metadata)
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + suffix(self._rng)
        check(resource, obj)
        if self._store.get(resource.storage, namespace_of(obj), name_of(obj)) is not None:
            raise already_exists(resource, name_of(obj))
        if resource.qualified == "pods":
            self._admit_pod(obj)
        elif "status" in resource.subresources:
            obj["status"] = {}
        metadata |= {"uid": self._store.new_uid(), "creationTimestamp": rfc3339(now)}
        fill(obj, self._rng)
        if options.apply:
            by = Manager(options.manager, "Apply")
            metadata["managedFields"] = applied(None, body, by, resource, now, force=True)["metadata"]["managedFields"]
        else:
            obj = signed(None, obj, Manager(options.manager, "Update"), resource, now)
        return obj if options.dry else self._store.add(resource.storage, obj)

    def _admit_pod(self, obj: Obj) -> None:
        obj["spec"] = admitted_spec(obj["spec"])
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(obj["spec"])}
        refused = quota_refusal(self._store, obj)
        if refused is not None:
            raise refused

    def _check_type(self, resource: Resource, body: Obj) -> None:
        given = (body.get("apiVersion"), body.get("kind"))
        if given != (resource.api_version, resource.kind):
            raise bad_request(
                f'{given[1]} in version "{given[0]}" cannot be handled as a {resource.kind}: the kind of the '
                f"object must be {resource.api_version} {resource.kind}"
            )

    def _place(self, request: ResourceRequest, metadata: Obj) -> None:
        """Puts the object into the namespace of the request."""
        if not request.resource.namespaced:
            metadata.pop("namespace", None)
            return
        if not request.namespace:
            raise bad_request("namespace must be given in the path")
        if metadata.setdefault("namespace", request.namespace) != request.namespace:
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        where = self._store.get("namespaces", "", request.namespace)
        if where is None:
            raise not_found(by_key("namespaces"), request.namespace)
        if is_deleting(where):
            where_text = f"in namespace {request.namespace}"
            why = f"unable to create new content {where_text} because it is being terminated"
            raise forbidden(request.resource, str(metadata.get("name", "")), why)

    def update(self, request: ResourceRequest, body: Obj, options: WriteOptions, now: datetime) -> Obj:
        """Replaces the object (or only its status). Raises 400, 404, 409 and 422."""
        before = self.get(request.resource, request.namespace, request.name)
        self._check_type(request.resource, body)
        if options.strict:
            check_strictly(body)
        return self._store_change(request, before, as_stored(body, request.resource), options, now)

    def patch(
        self, request: ResourceRequest, content_type: str, body: Any, options: WriteOptions, now: datetime
    ) -> Obj:
        """Patches the object (or only its status). Raises 400, 404, 409, 415 and 422."""
        before = self.get(request.resource, request.namespace, request.name)
        after = apply_patch(content_type, request.resource, before, body)
        return self._store_change(request, before, after, options, now)

    def apply(self, request: ResourceRequest, body: Any, options: WriteOptions, now: datetime) -> tuple[Obj, bool]:
        """Server-side apply: what is there now, and whether it is new. Raises 400, 403, 404, 409 and 422."""
        if not isinstance(body, dict) or not isinstance(body.get("metadata", {}), dict):
            raise bad_request("the applied configuration must be an object")
        self._check_type(request.resource, body)
        config = {**body, "metadata": {**(body.get("metadata") or {})}}
        if "managedFields" in config["metadata"]:
            raise bad_request("metadata.managedFields must be nil")
        if config["metadata"].setdefault("name", request.name) != request.name:
            raise bad_request(_name_mismatch(config["metadata"]["name"], request.name))
        check_applied(config)
        before = self._store.get(request.resource.storage, request.namespace, request.name)
        if before is None:
            if uid := config["metadata"].get("uid"):
                why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                raise conflict(request.resource, request.name, why)
            return self.create(request, config, options, now), True
        if (given := config["metadata"].get("namespace")) and given != request.namespace:
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        by = Manager(options.manager, "Apply")
        after = applied(before, config, by, request.resource, now, force=options.force)
        return self._store_change(request, before, after, options, now), False

    def _store_change(
        self, request: ResourceRequest, before: Obj, body: Obj, options: WriteOptions, now: datetime
    ) -> Obj:
        resource, name = request.resource, request.name
        obj = copy.deepcopy(body)
        metadata: Obj = obj.setdefault("metadata", {})
        if metadata.get("name", name) != name:
            raise bad_request(_name_mismatch(metadata["name"], name))
        version, uid = metadata.get("resourceVersion"), metadata.get("uid")
        if version and version != meta(before)["resourceVersion"]:
            raise conflict(resource, name, _STALE)
        if uid and uid != uid_of(before):
            raise conflict(
                resource,
                name,
                f"Precondition failed: UID in precondition: {uid}, UID in object meta: {uid_of(before)}",
            )
        if request.subresource == "status":
            obj = {**before, "status": obj.get("status") or {}}
        else:
            for key in ("name", "namespace", *_SERVER_OWNED):
                metadata.pop(key, None)
                if key in meta(before):
                    metadata[key] = meta(before)[key]
            if "status" in resource.subresources and "status" in before:
                obj["status"] = before["status"]
            obj["apiVersion"], obj["kind"] = before["apiVersion"], before["kind"]
        check(resource, obj, before)
        obj["metadata"]["resourceVersion"] = meta(before)["resourceVersion"]
        if obj == before:
            return before
        if not options.apply:
            obj = signed(before, obj, Manager(options.manager, "Update", request.subresource), resource, now)
        return obj if options.dry else self._store.replace(resource.storage, obj)

    def delete(self, request: ResourceRequest, body: Obj, options: WriteOptions, now: datetime) -> Obj:
        """Deletes the object and what it owns; a pod goes gracefully. Raises 404 and 409."""
        resource = request.resource
        found = self.get(resource, request.namespace, request.name)
        check_preconditions(resource, found, body.get("preconditions") or {})
        policy = body.get("propagationPolicy") or default_policy(resource)
        if policy not in _POLICIES:
            known = ", ".join(f'"{one}"' for one in _POLICIES)
            why = f'Unsupported value: "{policy}": supported values: {known}'
            raise invalid(resource, request.name, [("FieldValueNotSupported", why, "propagationPolicy")])
        grace = body.get("gracePeriodSeconds")
        if resource.qualified == "pods" and grace != 0 and found["spec"].get("nodeName"):
            return self._delete_gracefully(found, options, now)
        if resource.qualified == "namespaces":
            if options.dry:
                return found
            metadata = {**found["metadata"], "deletionTimestamp": rfc3339(now)}
            return self._store.replace(
                "namespaces", {**found, "metadata": metadata, "status": {"phase": "Terminating"}}
            )
        if not options.dry:
            self._store.remove(resource.storage, request.namespace, request.name)
            if policy == "Orphan":
                self._orphan(uid_of(found), request.namespace)
            else:
                self._collect(uid_of(found), request.namespace, now)
        if resource.qualified == "pods":
            return found
        return success(resource, request.name, uid_of(found))

    def _delete_gracefully(self, pod: Obj, options: WriteOptions, now: datetime) -> Obj:
        if is_deleting(pod):
            return pod
        if options.dry:
            return {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": rfc3339(now)}}
        return mark_deleted(self._store, pod, now)

    def _orphan(self, uid: str, namespace: str) -> None:
        """The garbage collector: what the deleted object owned stays, and no longer names it."""
        for resource in _CASCADE:
            for obj in self._store.all(resource.storage, namespace):
                owners = meta(obj).get("ownerReferences") or []
                kept = [owner for owner in owners if owner["uid"] != uid]
                if len(kept) < len(owners):
                    metadata = {k: v for k, v in obj["metadata"].items() if k != "ownerReferences"}
                    metadata |= {"ownerReferences": kept} if kept else {}
                    self._store.replace(resource.storage, {**obj, "metadata": metadata})

    def _collect(self, uid: str, namespace: str, now: datetime) -> None:
        """The garbage collector: what the deleted object owned goes too."""
        for resource in _CASCADE:
            for obj in self._store.all(resource.storage, namespace):
                if not any(owner["uid"] == uid for owner in meta(obj).get("ownerReferences") or []):
                    continue
                if resource.qualified == "pods" and obj["spec"].get("nodeName"):
                    if not is_deleting(obj):
                        mark_deleted(self._store, obj, now)
                    continue
                self._store.remove(resource.storage, namespace_of(obj), name_of(obj))
                self._collect(uid_of(obj), namespace_of(obj), now)


def check_preconditions(resource: Resource, found: Obj, wanted: Mapping[str, str]) -> None:
    """Returns if the object is the one that is meant. Raises 409."""
    for key, real in (("uid", uid_of(found)), ("resourceVersion", meta(found)["resourceVersion"])):
        if wanted.get(key) and wanted[key] != real:
            word = "UID" if key == "uid" else "ResourceVersion"
            both = f"{word} in precondition: {wanted[key]}, {word} in object meta: {real}"
            raise conflict(resource, name_of(found), f"Precondition failed: {both}")


def _name_mismatch(given: str, name: str) -> str:
    return f"the name of the object ({given}) does not match the name on the URL ({name})"
