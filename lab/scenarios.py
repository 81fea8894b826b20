"""Incident scenarios: what each changes in the healthy cluster, and the truth about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from lab.events import Source
from lab.objects import Obj, name_of, namespace_of
from lab.patches import merge, strategic
from lab.registry import RESOURCES, Resource
from lab.seed.files import read_yaml_folder
from lab.seed.plant import plant_workload, resolved, store_object
from lab.simulation.cluster import Cluster
from lab.simulation.world import Fault, read_program
from lab.times import parse_age

_FOLDER = "scenario_files"


class UnknownScenario(ValueError):
    """No scenario has that name; the message lists those there are."""


class ScenarioConflict(ValueError):
    """Two scenarios touch the same object, so neither would be what it says."""


@dataclass(frozen=True)
class ObjectRef:
    """One object by kind, namespace (empty if cluster-scoped) and name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Truth:
    """What a good diagnosis of the scenario says. `evidence_contains`: texts that the API shows somewhere. `healthy`:
    nothing is wrong, and `object` is what might be taken for it."""

    root_cause: str
    object: ObjectRef
    right_action: str
    reason: str = ""
    must_not_touch: tuple[str, ...] = ()
    evidence_contains: tuple[str, ...] = ()
    healthy: bool = False


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    since: timedelta
    truth: Truth
    tool: str = "diagnose"
    """The tool that finds it, and with which arguments."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(repr=False, default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Whether a diagnosis of the whole cluster finds it."""
        return (self.tool, self.arguments) == ("diagnose", {})

    def touched(self) -> set[ObjectRef]:
        """The objects that the scenario creates, patches or deletes."""
        found = {_ref(item) for key in ("patch", "delete") for item in self.changes.get(key) or []}
        found |= {
            ObjectRef(obj["kind"], namespace_of(obj), name_of(obj))
            for obj in self.changes.get("create") or []
        }
        found |= {
            ObjectRef(item.get("kind", "Deployment"), item["namespace"], item["name"])
            for item in self.changes.get("workloads") or []
        }
        found |= {ObjectRef(*key.replace("/", " ", 1).split(" ")) for key in self.changes.get("flux") or {}}
        found |= {ObjectRef("Node", "", name) for name in self.changes.get("dead_nodes") or []}
        return found | {
            ObjectRef("Program", *key.split("/", 1)) for key in self.changes.get("programs") or {}
        }


def _ref(item: Mapping[str, Any]) -> ObjectRef:
    return ObjectRef(item["kind"], item.get("namespace", ""), item["name"])


def _read(data: Mapping[str, Any]) -> Scenario:
    told = data["truth"]
    truth = Truth(
        told["root_cause"].strip(),
        _ref(told["object"]),
        told["right_action"].strip(),
        told.get("reason", ""),
        tuple(told.get("must_not_touch") or ()),
        tuple(told.get("evidence_contains") or ()),
        bool(told.get("healthy")),
    )
    asked = dict(data.get("ask") or {"tool": "diagnose"})
    since = parse_age(data.get("since", "1h"))
    return Scenario(data["name"], data["title"], since, truth, asked.pop("tool"), asked, data)


@cache
def _all() -> tuple[Scenario, ...]:
    return tuple(_read(data) for data in read_yaml_folder("lab", _FOLDER).values())


def available() -> list[Scenario]:
    """Every scenario, by name."""
    return sorted(_all(), key=lambda one: one.name)


def choose(names: Sequence[str]) -> list[Scenario]:
    """The scenarios of these names. Raises UnknownScenario and ScenarioConflict."""
    known = {one.name: one for one in available()}
    chosen: list[Scenario] = []
    for name in dict.fromkeys(names):
        if name not in known:
            raise UnknownScenario(f"unknown scenario {name!r}; known: {', '.join(known)}")
        for other in chosen:
            both = known[name].touched() & other.touched()
            if both:
                listed = ", ".join(sorted(map(str, both)))
                raise ScenarioConflict(f"scenarios {other.name} and {name} both change {listed}")
        chosen.append(known[name])
    return chosen


def apply(
    cluster: Cluster,
    scenarios: Sequence[Scenario],
    now: datetime,
    travel: Callable[[datetime], AbstractContextManager[None]],
) -> None:
    """Makes each scenario happen at its time in the past, and lets the cluster live on to `now`."""
    ordered = sorted(scenarios, key=lambda one: one.since, reverse=True)
    for position, scenario in enumerate(ordered):
        start = now - scenario.since
        end = now - ordered[position + 1].since if position + 1 < len(ordered) else now
        with travel(start):
            _change(cluster, scenario.changes, start, now)
        for moment in cluster.moments(start, end):
            with travel(moment):
                cluster.step(moment)
    for scenario in scenarios:
        _tell(cluster, scenario.changes, now)


def _resource(kind: str) -> Resource:
    return next(item for item in RESOURCES if item.kind == kind)


def _change(cluster: Cluster, changes: Mapping[str, Any], start: datetime, now: datetime) -> None:
    world = cluster.world
    world.images |= changes.get("images") or {}
    world.architectures |= {
        image: tuple(built) for image, built in (changes.get("architectures") or {}).items()
    }
    world.faults |= {name: Fault(**fault) for name, fault in (changes.get("flux") or {}).items()}
    world.fills |= changes.get("fills") or {}
    world.dead_nodes |= dict.fromkeys(changes.get("dead_nodes") or [], start)
    for key, data in (changes.get("programs") or {}).items():
        world.programs[key] = read_program(data, now, world.programs.get(key))
        cluster.kubelets.change_lines(key, world.programs[key], start)
    for item in changes.get("delete") or []:
        cluster.store.remove(_resource(item["kind"]).storage, item.get("namespace", ""), item["name"])
    for obj in changes.get("create") or []:
        store_object(cluster, resolved(obj, now))
    for item in changes.get("workloads") or []:
        plant_workload(cluster, item, now)
    for item in changes.get("patch") or []:
        _patch(cluster, item, now)


def _patch(cluster: Cluster, item: Mapping[str, Any], now: datetime) -> None:
    resource = _resource(item["kind"])
    found = cluster.store.get(resource.storage, item.get("namespace", ""), item["name"])
    if found is None:
        raise KeyError(f"{_ref(item)} is not in the seed")
    mixed = merge if resource.custom else strategic
    changed: Obj = mixed(found, resolved(dict(item["with"]), now))
    cluster.store.replace(resource.storage, changed)


def _tell(cluster: Cluster, changes: Mapping[str, Any], now: datetime) -> None:
    """Events that a component outside the simulation (Flux) has recorded."""
    for item in changes.get("events") or []:
        about = cluster.store.get(_resource(item["kind"]).storage, item.get("namespace", ""), item["name"])
        if about is None:
            raise KeyError(f"{_ref(item)} is not in the seed")
        first, last = now - parse_age(item["first"]), now - parse_age(item["last"])
        cluster.recorder.record(
            about,
            Source(item["source"]),
            item.get("type", "Warning"),
            item["reason"],
            item["message"],
            first,
            times=item.get("times", 1),
            last=last,
        )
