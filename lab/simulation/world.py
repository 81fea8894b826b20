"""What is true outside the API: registries, the programs in the containers, and dead machines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from lab.objects import Obj, labels_of, name_of, namespace_of
from lab.quantities import parse_quantity
from lab.times import parse_age

ImageFault = Literal["not-found", "unauthorized", "rate-limited"]
APP = "app.kubernetes.io/name"


@dataclass(frozen=True)
class Crash:
    """The program ends by itself `after` seconds, every time."""

    after: float
    exit_code: int
    lines: tuple[str, ...] = ()
    reason: str = "Error"


@dataclass(frozen=True)
class Program:
    """How the program in one container behaves. Seconds, MiB and millicores.

    `only_with` limits the faults (crash, probes, memory) to containers whose spec has this text somewhere,
    so that taking the cause away heals.
    """

    start: tuple[str, ...] = ()
    steady: tuple[str, ...] = ()
    every: float = 60
    ready_after: float = 4
    memory: float = 64
    cpu: float = 12
    needs_memory: float = 0
    crash: Crash | None = None
    fails_first: int = 0
    """So many first pods of a Job crash, the later ones succeed."""
    restarted: tuple[datetime, ...] = ()
    """Past instants at which the program died once."""
    runs_for: float | None = None
    readiness_error: str = ""
    liveness_error: str = ""
    only_with: str = ""

    def faulty_in(self, container: Obj) -> bool:
        return not self.only_with or self.only_with in json.dumps(container)


def read_program(data: Mapping[str, Any], now: datetime, before: Program | None = None) -> Program:
    """Reads a program from YAML; what it leaves out comes from `before`."""
    values = dict(vars(before)) if before else {}
    for key, value in data.items():
        match key:
            case "crash":
                values[key] = Crash(
                    float(value["after"]),
                    int(value["exit_code"]),
                    tuple(value.get("lines", ())),
                    value.get("reason", "Error"),
                )
            case "restarted":
                values[key] = tuple(now - parse_age(one) for one in value)
            case "start" | "steady":
                values[key] = tuple(value)
            case _:
                values[key] = value
    return Program(**values)


@dataclass(frozen=True)
class Fault:
    """Why a controller of Flux's fails at one object, whatever Git says. `stalled`: it has given up."""

    reason: str
    message: str
    stalled: bool = False


@dataclass
class World:
    """Shared by every simulated component; a scenario changes it."""

    images: dict[str, ImageFault] = field(default_factory=dict)
    architectures: dict[str, tuple[str, ...]] = field(default_factory=dict)
    programs: dict[str, Program] = field(default_factory=dict)
    dead_nodes: dict[str, datetime] = field(default_factory=dict)
    fills: dict[str, float] = field(default_factory=dict)
    """How full a claim is, from 0 to 1, by `namespace/name`."""
    faults: dict[str, Fault] = field(default_factory=dict)
    """Of Flux's objects, by `Kind namespace/name`."""

    def fault(self, obj: Obj) -> Fault | None:
        """Why the controller of this object fails at it, if it does."""
        return self.faults.get(f"{obj['kind']} {namespace_of(obj)}/{name_of(obj)}")

    def program(self, pod: Obj, container: Obj) -> Program:
        """The program of a container: by namespace, the pod's app label, and the container's name."""
        return self.programs.get(program_key(pod, container), DEFAULT)


def program_key(pod: Obj, container: Obj) -> str:
    """`namespace/app/container`, where the app is the pod's label."""
    return f"{namespace_of(pod)}/{labels_of(pod).get(APP, '')}/{container['name']}"


DEFAULT = Program(start=("starting", "ready"))


def memory_limit(container: Obj) -> float:
    """The container's memory limit in MiB, or infinity."""
    limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
    return float(parse_quantity(limit) / 2**20) if limit else float("inf")
