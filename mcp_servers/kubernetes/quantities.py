"""Kubernetes quantities as numbers."""

from __future__ import annotations

_SUFFIXES = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip


def parse(quantity: str) -> float:
    """Cores or bytes. 0.0 for what is not a quantity."""
    digits = quantity.rstrip("numkKMGTPEi")
    try:
        return float(digits) * _SUFFIXES[quantity[len(digits) :]]
    except (ValueError, KeyError):
        return 0.0


def cores(value: float) -> str:
    return f"{round(value * 1000)}m"


def mebibytes(value: float) -> str:
    return f"{round(value / 2**20)}Mi"
