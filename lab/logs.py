"""Container logs: the lines that a program has written up to now, and the log endpoint's parameters."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from lab.lists import whole_number
from lab.objects import Obj, containers, init_containers, name_of, uid_of
from lab.requests import is_true
from lab.simulation.containers import ContainerLife, Run
from lab.simulation.kubelet import Kubelets
from lab.simulation.podstatus import previous_run
from lab.simulation.world import Program
from lab.status import bad_request
from lab.times import parse_instant, rfc3339_nano

KEPT = timedelta(hours=24)
MOST = 2000
"""The kubelet rotates at 10 MiB; the lab keeps the last day, and so many lines."""
POLL = 0.25
"""Seconds between looks while following; the lab's programs write no faster."""


@dataclass(frozen=True)
class Line:
    at: datetime
    text: str


@dataclass(frozen=True)
class LogQuery:
    tail: int | None
    since: datetime | None
    limit_bytes: int | None
    timestamps: bool
    previous: bool
    follow: bool


def read_log_query(query: Mapping[str, str], now: datetime) -> LogQuery:
    """The parameters of a log request. Raises 400."""
    seconds, since = whole_number(query, "sinceSeconds"), None
    if seconds is not None:
        if seconds < 1:
            raise bad_request("sinceSeconds must be greater than 0")
        since = now - timedelta(seconds=seconds)
    if query.get("sinceTime"):
        if seconds is not None:
            raise bad_request("at most one of `sinceTime` or `sinceSeconds` may be specified")
        try:
            since = parse_instant(query["sinceTime"])
        except ValueError as error:
            raise bad_request(str(error)) from None
    tail = whole_number(query, "tailLines")
    if tail is not None and tail < 0:
        raise bad_request("tailLines must be greater than or equal to 0")
    return LogQuery(
        tail,
        since,
        whole_number(query, "limitBytes"),
        is_true(query, "timestamps"),
        is_true(query, "previous"),
        is_true(query, "follow"),
    )


def choose_container(pod: Obj, name: str) -> str:
    """The container meant; the only one if none is named. Raises 400."""
    names, inits = [c["name"] for c in containers(pod)], [c["name"] for c in init_containers(pod)]
    if name:
        if name not in names + inits:
            raise bad_request(f"container {name} is not valid for pod {name_of(pod)}")
        return name
    if len(names) == 1 and not inits:
        return str(names[0])
    choices = f"a container name must be specified for pod {name_of(pod)}, choose one of: [{' '.join(names)}]"
    if len(names) == 1:
        return str(names[0])
    raise bad_request(choices + (f" or one of the init containers: [{' '.join(inits)}]" if inits else ""))


def find_run(kubelets: Kubelets, pod: Obj, container: str, *, previous: bool) -> tuple[ContainerLife, Run]:
    """The run whose log is asked for. Raises the kubelet's 400s."""
    pod_life = kubelets.lives.get(uid_of(pod))
    life = pod_life.life(container) if pod_life else None
    name = name_of(pod)
    if previous:
        before = previous_run(life) if life else None
        if life is None or before is None:
            raise bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
        return life, before
    if life is not None and life.run is not None:
        return life, life.run
    reason = life.waiting[0] if life else "ContainerCreating"
    if not pod["spec"].get("nodeName"):
        raise bad_request(f"pod {name} does not have a host assigned")
    words = {
        "ErrImagePull": "image can't be pulled",
        "ImagePullBackOff": "trying and failing to pull image",
    }
    raise bad_request(
        f'container "{container}" in pod "{name}" is waiting to start: {words.get(reason, reason)}'
    )


def lines_of(run: Run, now: datetime) -> list[Line]:
    """What the run has written by `now`, oldest first."""
    return [line for line in _written(run, now) if line.at <= now]


def _fill(text: str, at: datetime) -> str:
    return text.replace("{time}", rfc3339_nano(at)[:23] + "Z").replace(
        "{clock}", at.strftime("%Y-%m-%d %H:%M:%S")
    )


def _written(run: Run, now: datetime) -> Iterator[Line]:
    program, end = run.program, min(run.ended or now, now)
    oldest = now - KEPT
    for index, text in enumerate(program.start):
        at = run.started + timedelta(milliseconds=120 + 380 * index)
        if oldest <= at <= end or run.started >= oldest:
            yield Line(min(at, end), _fill(text, at))
    if run.later is None:
        yield from _steady(run, program, max(run.started, oldest), end)
    else:
        turned, other = run.later
        yield from _steady(run, program, max(run.started, oldest), min(turned, end))
        yield from _steady(run, other, max(turned, oldest), end)
    if run.ended is not None:
        for index, text in enumerate(run.lines):
            at = run.ended - timedelta(milliseconds=40 * (len(run.lines) - index))
            yield Line(max(at, run.started), _fill(text, at))


def _steady(run: Run, program: Program, start: datetime, end: datetime) -> Iterator[Line]:
    """The lines that the program repeats, between two instants, in a rhythm that began with the run."""
    if not program.steady:
        return
    first = run.started + timedelta(seconds=min(program.every, 10))
    gap = timedelta(seconds=program.every)
    index = max(0, math.ceil((start - first) / gap), int((end - first) / gap) - MOST)
    while (at := first + gap * index) <= end:
        yield Line(at, _fill(program.steady[index % len(program.steady)], at))
        index += 1


def _text(line: Line, wanted: LogQuery) -> str:
    return f"{rfc3339_nano(line.at)} {line.text}\n" if wanted.timestamps else f"{line.text}\n"


def _selected(run: Run, wanted: LogQuery, now: datetime) -> list[Line]:
    lines = [line for line in lines_of(run, now) if wanted.since is None or line.at >= wanted.since]
    if wanted.tail is not None:
        lines = lines[len(lines) - wanted.tail :] if wanted.tail < len(lines) else lines
    return lines


def read_log(run: Run, wanted: LogQuery, now: datetime) -> bytes:
    """The log as it is now."""
    body = "".join(_text(line, wanted) for line in _selected(run, wanted, now)).encode()
    return body if wanted.limit_bytes is None else body[: wanted.limit_bytes]


async def follow_log(
    run: Run, wanted: LogQuery, clock: Callable[[], datetime], closing: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """The log as it is now, then each new line, until the container ends or the server closes."""
    at = clock()
    yield read_log(run, wanted, at)
    while not closing() and run.ended is None:
        await asyncio.sleep(POLL)
        now = clock()
        fresh = [line for line in lines_of(run, now) if line.at > at]
        if fresh:
            yield "".join(_text(line, wanted) for line in fresh).encode()
        at = now
