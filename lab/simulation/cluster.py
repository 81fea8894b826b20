"""One step of the whole cluster, in the order in which its components would react."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta

from lab.events import Recorder
from lab.gitops.kustomizations import Kustomizations
from lab.gitops.origin import Origin
from lab.gitops.releases import Releases
from lab.gitops.sources import Sources
from lab.simulation import endpoints
from lab.simulation.autoscalers import Autoscalers
from lab.simulation.budgets import update_budgets
from lab.simulation.daemonsets import DaemonSets
from lab.simulation.deployments import Deployments
from lab.simulation.jobs import Jobs
from lab.simulation.kubelet import Kubelets
from lab.simulation.nodes import Nodes
from lab.simulation.quota import update_quotas
from lab.simulation.replicasets import ReplicaSets
from lab.simulation.scheduler import Scheduler
from lab.simulation.statefulsets import StatefulSets
from lab.simulation.volumes import Volumes
from lab.simulation.world import World
from lab.store import Store

_MOMENTS = (0, 1, 2, 4, 7, 12, 20, 35, 50, 60, 75, 90, 110, 130, 160, 200, 250, 300, 360, 420, 500, 605, 700)
"""Seconds after an incident at which the controllers look, until the looks are minutes apart."""


class Cluster:
    """The components, on one store. Not safe across threads: step and serve in the same event loop."""

    def __init__(self, store: Store, world: World, rng: random.Random) -> None:
        self.store, self.world, self.rng = store, world, rng
        self.recorder = Recorder(store, rng)
        self.kubelets = Kubelets(store, self.recorder, world, rng)
        self.deployments = Deployments(store, self.recorder)
        self.replica_sets = ReplicaSets(store, self.recorder, rng)
        self.stateful_sets = StatefulSets(store, self.recorder)
        self.daemon_sets = DaemonSets(store, self.recorder, rng)
        self.jobs = Jobs(store, self.recorder, rng)
        self.scheduler = Scheduler(store, self.recorder)
        self.volumes = Volumes(store, self.recorder)
        self.nodes = Nodes(store, self.recorder, world)
        self.autoscalers = Autoscalers(store, self.recorder)
        self.sources = Sources(store, self.recorder, world)
        self.kustomizations = Kustomizations(store, self.recorder, rng, world)
        self.releases = Releases(store, self.recorder, world)

    def step(self, now: datetime) -> None:
        """Everything that is due by `now` happens."""
        self.sources.step(now)
        self.kustomizations.step(now)
        self.releases.step(now)
        self.kubelets.step(now)
        self.nodes.step(now)
        self.volumes.step(now)
        self.deployments.step(now)
        self.replica_sets.step(now)
        self.stateful_sets.step(now)
        self.daemon_sets.step(now)
        self.jobs.step(now)
        self.scheduler.step(now)
        self.volumes.step(now)
        self.kubelets.step(now)
        self.replica_sets.step(now)
        self.deployments.step(now)
        endpoints.step(self.store)
        update_quotas(self.store)
        update_budgets(self.store)
        self.autoscalers.step(now)
        self.recorder.expire(now)

    def follow(self, origin: Origin) -> None:
        """From now on the GitRepositories of the cluster are fetched from there, and what is in it is applied."""
        self.sources.follow(origin)
        self.kustomizations.origin = origin

    def moments(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """When to step from `start` to `end`: often at first, then at growing intervals, and at `end`."""
        for seconds in _MOMENTS:
            if start + timedelta(seconds=seconds) >= end:
                break
            yield start + timedelta(seconds=seconds)
        else:
            at, gap = start + timedelta(seconds=_MOMENTS[-1]), timedelta(minutes=5)
            while (at := at + gap) < end - timedelta(minutes=5):
                yield at
                gap *= 1.6
            for back in (timedelta(minutes=5), timedelta(minutes=2), timedelta(seconds=30)):
                if end - back > start:
                    yield end - back
        yield end
