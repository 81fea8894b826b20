"""One spelling of a JSON value, and the hash of it: what is shown, signed and executed is compared by this."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic_core import to_jsonable_python


def canonical(value: Any) -> str:
    """The value as JSON with sorted keys, no spaces and only ASCII. Raises `ValueError` for what JSON can't hold."""
    plain = to_jsonable_python(value)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of `canonical`, in hexadecimal."""
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()
