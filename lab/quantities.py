"""Resource quantities: `500m`, `256Mi`, `2Gi`."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

_SUFFIXES = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
}


@lru_cache(maxsize=1024)
def parse_quantity(text: str | int | float) -> Fraction:
    """The exact value in units (cores, bytes). Raises ValueError."""
    match = re.fullmatch(r"([+-]?\d+(?:\.\d+)?)([a-zA-Z]*)", str(text))
    if match is None or match[2] not in _SUFFIXES:
        raise ValueError(f"not a quantity: {text!r}")
    return Fraction(match[1]) * _SUFFIXES[match[2]]


def cpu_text(cores: Fraction) -> str:
    """Whole cores as `2`, else millicores as `250m`."""
    return str(int(cores)) if cores.denominator == 1 else f"{int(cores * 1000)}m"


def bytes_text(size: Fraction) -> str:
    """The largest binary suffix that keeps the number whole."""
    for suffix in ("Gi", "Mi", "Ki"):
        if size and (size / _SUFFIXES[suffix]).denominator == 1:
            return f"{int(size / _SUFFIXES[suffix])}{suffix}"
    return str(int(size))


def amount_text(resource: str, value: Fraction) -> str:
    """A total of `resource` (`cpu`, `limits.memory`, `pods`) as the quota and describe output write it."""
    if "cpu" in resource:
        return cpu_text(value)
    if "memory" in resource or "storage" in resource:
        return bytes_text(value)
    return str(int(value))
