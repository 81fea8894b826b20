"""Reading the few protobuf bodies that kubectl sends: reviews and evictions; the rest it sends as JSON."""

from __future__ import annotations

from collections.abc import Iterator

from lab.objects import Obj
from lab.status import bad_request, unsupported_media_type

MEDIA = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"

Schema = dict[int, tuple[str, "Schema | type[str] | type[int] | type[list[str]]"]]
"""Field number to JSON name and to what it holds: a message, a string, a number, or strings."""

_METADATA: Schema = {1: ("name", str), 3: ("namespace", str)}
_DELETE: Schema = {
    1: ("gracePeriodSeconds", int),
    2: ("preconditions", {1: ("uid", str), 2: ("resourceVersion", str)}),
    4: ("propagationPolicy", str),
    5: ("dryRun", list[str]),
}
_RESOURCE: Schema = {
    1: ("namespace", str),
    2: ("verb", str),
    3: ("group", str),
    4: ("version", str),
    5: ("resource", str),
    6: ("subresource", str),
    7: ("name", str),
}
_SCHEMAS: dict[str, Schema] = {
    "SelfSubjectAccessReview": {
        2: (
            "spec",
            {
                1: ("resourceAttributes", _RESOURCE),
                2: ("nonResourceAttributes", {1: ("path", str), 2: ("verb", str)}),
            },
        ),
    },
    "SelfSubjectRulesReview": {2: ("spec", {1: ("namespace", str)})},
    "SelfSubjectReview": {},
    "Eviction": {1: ("metadata", _METADATA), 2: ("deleteOptions", _DELETE)},
    "DeleteOptions": _DELETE,
}


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            number, at = _varint(data, at)
            yield key >> 3, number
        elif kind == 2:
            size, at = _varint(data, at)
            yield key >> 3, data[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {kind}")


def _message(data: bytes, schema: Schema) -> Obj:
    found: Obj = {}
    for number, value in _fields(data):
        if number not in schema:
            continue
        name, holds = schema[number]
        if isinstance(holds, dict) and isinstance(value, bytes):
            found[name] = _message(value, holds)
        elif holds is int:
            found[name] = value
        elif isinstance(value, bytes):
            text = value.decode()
            if holds is str:
                found[name] = text
            else:
                found.setdefault(name, []).append(text)
    return found


def decode(body: bytes) -> Obj:
    """The object of a protobuf body. Raises 400, and 415 for a kind that the lab reads only as JSON."""
    if not body.startswith(_MAGIC):
        raise bad_request("the body is not a Kubernetes protobuf message")
    try:
        envelope = dict(_fields(body[len(_MAGIC) :]))
        types, raw = envelope.get(1, b""), envelope.get(2, b"")
        assert isinstance(types, bytes) and isinstance(raw, bytes)
        names = _message(types, {1: ("apiVersion", str), 2: ("kind", str)})
        schema = _SCHEMAS.get(names.get("kind", ""))
        if schema is None:
            raise unsupported_media_type(MEDIA, ("application/json", "application/yaml"))
        return {**names, **_message(raw, schema)}
    except (IndexError, ValueError, AssertionError) as error:
        raise bad_request(f"the protobuf body cannot be decoded: {error}") from None
