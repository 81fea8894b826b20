"""Instants and durations as Kubernetes writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_AGE = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")


def rfc3339(at: datetime) -> str:
    """`2026-01-02T03:04:05Z`: seconds, as metav1.Time is written."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(at: datetime) -> str:
    """Six digits of a second, as metav1.MicroTime is written (leases, event series)."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def rfc3339_nano(at: datetime) -> str:
    """Nine digits of a second, as the kubelet stamps log lines."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def parse_instant(text: str) -> datetime:
    """Reads an RFC 3339 instant. Raises ValueError."""
    match = re.fullmatch(r"(.*T\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", text.strip())
    if match is None:
        raise ValueError(f"not an RFC 3339 instant: {text!r}")
    whole, fraction, zone = match.groups()
    at = datetime.fromisoformat(whole + ("+00:00" if zone == "Z" else zone))
    return at + timedelta(seconds=float(fraction or 0))


def parse_age(text: str | int | float) -> timedelta:
    """Reads `6d`, `1h30m`, `-90s` or a number of seconds, sign ignored: how long ago, or how long."""
    if isinstance(text, int | float):
        return timedelta(seconds=abs(text))
    body = text.strip().lstrip("-+")
    parts = _AGE.findall(body)
    if not parts or "".join(number + unit for number, unit in parts) != body:
        raise ValueError(f"not an age: {text!r}")
    return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))


def _pair(big: int, unit: str, small: int, small_unit: str) -> str:
    return f"{big}{unit}{small}{small_unit}" if small else f"{big}{unit}"


def human_duration(span: timedelta) -> str:
    """The age column's wording: two units while they matter, as k8s.io/apimachinery's HumanDuration."""
    seconds = int(span.total_seconds())
    minutes, hours = seconds // 60, seconds // 3600
    if seconds < -1:
        return "<invalid>"
    if seconds < 120:
        return f"{max(seconds, 0)}s"
    if minutes < 10:
        return _pair(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 24 * 8:
        return _pair(hours // 24, "d", hours % 24, "h")
    if hours < 24 * 365 * 2:
        return f"{hours // 24}d"
    if hours < 24 * 365 * 8:
        return _pair(hours // 24 // 365, "y", hours // 24 % 365, "d")
    return f"{hours // 24 // 365}y"


def age(stamp: object, now: datetime) -> str:
    """The age column for an RFC 3339 stamp, `<unknown>` without one."""
    if not isinstance(stamp, str) or not stamp:
        return "<unknown>"
    return human_duration(now - parse_instant(stamp))


def go_duration(span: timedelta) -> str:
    """`1h2m3s`, `5m0s`, `40s`: how Go prints a duration, as in back-off messages."""
    seconds = int(span.total_seconds())
    hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
