"""What a query gives: scalars, strings, vectors and matrices, with plain samples or native histograms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opswarm.errors import Unavailable

KINDS = ("vector", "matrix", "scalar", "string")


@dataclass(frozen=True, slots=True)
class Bucket:
    """Observations from `low` to `high`; which bound is in it does not matter here."""

    low: float
    high: float
    count: float


@dataclass(frozen=True, slots=True)
class Histogram:
    """A native histogram."""

    count: float
    sum: float
    buckets: tuple[Bucket, ...]

    def quantile(self, share: float) -> float:
        """An estimate, as if observations were spread evenly within a bucket; NaN when there are none."""
        wanted, seen = share * self.count, 0.0
        for bucket in self.buckets:
            if bucket.count > 0 and seen + bucket.count >= wanted:
                return bucket.low + (bucket.high - bucket.low) * max(0.0, wanted - seen) / bucket.count
            seen += bucket.count
        return self.buckets[-1].high if self.buckets and self.count > 0 else math.nan

    @property
    def mean(self) -> float:
        return self.sum / self.count if self.count else math.nan

    def short(self) -> str:
        return f"(count={number(self.count)},mean={number(self.mean)})"

    def __str__(self) -> str:
        quantiles = " ".join(f"p{q}≈{number(self.quantile(q / 100))}" for q in (50, 90, 99))
        return f"histogram count={number(self.count)} mean={number(self.mean)} {quantiles}"


@dataclass(frozen=True, slots=True)
class Point:
    """One sample: Unix seconds, the value as the API wrote it (`NaN`, `+Inf` too), and the histogram if it is one."""

    time: float
    text: str
    histogram: Histogram | None = None

    @property
    def value(self) -> float:
        """As a number; NaN for a histogram."""
        return as_float(self.text)

    def __str__(self) -> str:
        return str(self.histogram) if self.histogram else number(self.value)


@dataclass(frozen=True, slots=True)
class Series:
    labels: Mapping[str, str]
    points: tuple[Point, ...]

    @property
    def last(self) -> Point:
        return self.points[-1]


@dataclass(frozen=True, slots=True)
class Result:
    """A query's result: `kind` is one of `KINDS`. A string is in `text`, a scalar the only point of a series."""

    kind: str
    series: tuple[Series, ...]
    text: str = ""
    warnings: tuple[str, ...] = ()


def parsed(data: Any, name: str, warnings: Sequence[str] = ()) -> Result:
    """The result in the `data` of an answer. Raises `Unavailable` when it is none."""
    try:
        kind, found = str(data["resultType"]), data["result"]
        if kind == "string":
            return Result(kind, (), str(found[1]), tuple(warnings))
        if kind == "scalar":
            return Result(kind, (Series({}, (_point(found),)),), "", tuple(warnings))
        if kind in ("vector", "matrix"):
            return Result(kind, tuple(_series(s) for s in found), "", tuple(warnings))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise Unavailable(f"{name} gave a result that is not one of its API.") from error
    raise Unavailable(f"{name} gave a result of an unknown kind.")


def _series(found: Any) -> Series:
    labels = {str(k): str(v) for k, v in found["metric"].items()}
    points = [_point(p) for p in found.get("values") or ()]
    points += [_native(p) for p in found.get("histograms") or ()]
    if "value" in found:
        points.append(_point(found["value"]))
    if "histogram" in found:
        points.append(_native(found["histogram"]))
    if not points:
        raise ValueError("a series without samples")
    return Series(labels, tuple(sorted(points, key=lambda p: p.time)))


def _point(found: Any) -> Point:
    text = str(found[1])
    as_float(text)
    return Point(float(found[0]), text)


def _native(found: Any) -> Point:
    body = found[1]
    buckets = tuple(Bucket(float(b[1]), float(b[2]), float(b[3])) for b in body.get("buckets") or ())
    return Point(float(found[0]), "NaN", Histogram(float(body["count"]), float(body["sum"]), buckets))


def as_float(text: str) -> float:
    """A sample's value. Raises `ValueError` for what is none."""
    return float(text)


def number(value: float) -> str:
    """A number in few characters: whole ones whole, others to six digits, with a power of ten where it is far off."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.6g}"


def finite(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return value if math.isfinite(value) else None


def size(value: float) -> str:
    """Bytes with a binary unit: `512Mi`."""
    if not math.isfinite(value):
        return number(value)
    for unit in ("", "Ki", "Mi", "Gi", "Ti"):
        if abs(value) < 1_024:
            return f"{value:.3g}{unit}" if abs(value) < 999.5 else f"{value:.0f}{unit}"
        value /= 1_024
    return f"{value:.4g}Pi"


def cores(value: float) -> str:
    """CPU as Kubernetes writes it: `250m`, `1.5`."""
    if not math.isfinite(value):
        return number(value)
    return f"{value * 1_000:.0f}m" if abs(value) < 1 else f"{value:.3g}"


def percent(value: float) -> str:
    return f"{value * 100:.0f}%" if math.isfinite(value) else number(value)


def share(part: float, whole: float) -> float:
    """`part` of `whole`; NaN where there is no whole."""
    return part / whole if whole else math.nan
