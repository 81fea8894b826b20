"""A Loki that has what the containers of the lab write, labelled as Alloy labels the logs of pods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from lab.logs import lines_of
from lab.loki.logql import Labels
from lab.loki.store import NANO, Line, Store
from lab.objects import Obj, labels_of, name_of, namespace_of
from lab.simulation.cluster import Cluster
from lab.simulation.containers import ContainerLife, Run


def following(cluster: Cluster, clock: Callable[[], datetime]) -> Store:
    """A store of what is written, brought up to the present at each question; what a pod wrote stays when it goes."""
    seen: dict[str, datetime] = {}

    def more() -> Iterator[tuple[Labels, Line]]:
        now = clock()
        for pod_life in list(cluster.kubelets.lives.values()):
            for life in pod_life.lives:
                labels = _labels(pod_life.pod, life)
                for run in _runs(life):
                    after = seen.get(run.container_id)
                    for line in lines_of(run, now):
                        if after is None or line.at > after:
                            yield labels, Line(int(line.at.timestamp() * 1_000_000) * (NANO // 1_000_000), line.text)
                    seen[run.container_id] = now

    return Store(follow=more)


def _runs(life: ContainerLife) -> Iterator[Run]:
    for run in (life.last, life.run):
        if run is not None:
            yield run


def _labels(pod: Obj, life: ContainerLife) -> dict[str, str]:
    app = labels_of(pod).get("app.kubernetes.io/name", name_of(pod))
    return {
        "namespace": namespace_of(pod),
        "pod": name_of(pod),
        "container": str(life.spec["name"]),
        "app": app,
        "node_name": str(pod["spec"].get("nodeName", "")),
        "job": f"{namespace_of(pod)}/{life.spec['name']}",
    }
