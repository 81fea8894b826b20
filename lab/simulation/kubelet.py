"""The kubelets of the nodes: they carry the bound pods through their lives and write their status."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from lab.events import Recorder, Source
from lab.objects import (
    Obj,
    condition,
    containers,
    init_containers,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    uid_of,
)
from lab.simulation.containers import SYNC, ContainerLife
from lab.simulation.podstatus import container_statuses, phase, update_conditions
from lab.simulation.references import config_error, volume_error
from lab.simulation.world import ImageFault, Program, World, program_key
from lab.store import Store
from lab.times import parse_instant, rfc3339


@dataclass
class PodLife:
    """What the kubelet knows of one pod that the API does not show."""

    pod: Obj
    started: datetime
    ip: str
    lives: list[ContainerLife]
    conditions: list[Obj]
    mounted: bool = False
    mount_due: datetime | None = None
    written: Obj | None = None
    """The pod as this kubelet last left it; another object means that somebody else changed it."""

    def life(self, container: str) -> ContainerLife | None:
        return next((life for life in self.lives if life.spec["name"] == container), None)


class Kubelets:
    """All of them. `lives` is where logs and metrics are read from, by pod uid."""

    def __init__(self, store: Store, recorder: Recorder, world: World, rng: random.Random) -> None:
        self.lives: dict[str, PodLife] = {}
        self._store, self._recorder, self._world, self._rng = store, recorder, world, rng
        self._next_ip: dict[str, int] = {}
        self._images: set[tuple[str, str]] = set()
        self._failures: dict[str, int] = {}

    def step(self, now: datetime) -> None:
        """Brings every bound pod on a living node to `now`."""
        pods = self._store.all("pods")
        for pod in pods:
            node = pod["spec"].get("nodeName", "")
            if node and node not in self._world.dead_nodes:
                self._sync(pod, now)
        present = {uid_of(pod) for pod in self._store.all("pods")}
        for uid in [uid for uid in self.lives if uid not in present]:
            del self.lives[uid]

    def change_lines(self, key: str, program: Program, at: datetime) -> None:
        """The running containers of this program write its new lines from `at` on."""
        for life in self.lives.values():
            for one in life.lives:
                if one.run is not None and one.running and program_key(life.pod, one.spec) == key:
                    one.run.later = (at, program)

    def _sync(self, pod: Obj, now: datetime) -> None:
        if is_deleting(pod):
            self._finish(pod, now)
            return
        life = self.lives.get(uid_of(pod))
        if life is None:
            if pod.get("status", {}).get("phase") in ("Failed", "Succeeded"):
                return
            life = self._admit(pod)
        untouched = life.written is pod
        if not untouched:
            life.pod = pod
            for one in life.lives:
                one.pod = pod
        if self._advance(life, now) or not untouched:
            self._write(life, pod)

    def _finish(self, pod: Obj, now: datetime) -> None:
        life = self.lives.pop(uid_of(pod), None)
        for one in life.lives if life else []:
            if one.running:
                self.record(
                    pod,
                    "Normal",
                    "Killing",
                    f"Stopping container {one.spec['name']}",
                    now,
                    field_path=one.field_path,
                )
        self._store.remove("pods", namespace_of(pod), name_of(pod))

    def _admit(self, pod: Obj) -> PodLife:
        scheduled = condition(pod, "PodScheduled")
        stamp = scheduled["lastTransitionTime"] if scheduled else pod["metadata"]["creationTimestamp"]
        started = parse_instant(stamp)
        inits, mains = init_containers(pod), containers(pod)
        lives = [ContainerLife(pod, spec, True, self) for spec in inits]
        lives += [ContainerLife(pod, spec, False, self) for spec in mains]
        first = "PodInitializing" if inits else "ContainerCreating"
        for one in lives:
            one.waiting = (first, "")
        life = PodLife(pod, started, self._address(pod), lives, list(pod["status"].get("conditions") or []))
        self.lives[uid_of(pod)] = life
        life.mount_due = started + timedelta(milliseconds=600)
        update_conditions(life.conditions, lives, started)
        return life

    def _address(self, pod: Obj) -> str:
        node = self._store.get("nodes", "", pod["spec"]["nodeName"])
        assert node is not None
        if pod["spec"].get("hostNetwork"):
            return str(node["status"]["addresses"][0]["address"])
        network = node["spec"]["podCIDR"].rsplit(".", 1)[0]
        count = self._next_ip[network] = self._next_ip.get(network, 1) + 1
        return f"{network}.{count % 250 + 3}"

    def _advance(self, life: PodLife, now: datetime) -> bool:
        """Makes every change that is due; says whether there was one."""
        changed = False
        while True:
            timed = [(due, one) for one in life.lives if (due := one.next_due()) is not None]
            first = min(timed, key=lambda pair: pair[0], default=None)
            if not life.mounted:
                if life.mount_due is None or life.mount_due > now:
                    break
                self._mount(life, life.mount_due)
                changed = True
                continue
            if first is None or first[0] > now:
                break
            changed = True
            first[1].step(first[0])
            self._start_next(life, first[0])
            update_conditions(life.conditions, life.lives, first[0])
        for one in life.lives:
            one.tell_repeats(now)
        return changed

    def _mount(self, life: PodLife, at: datetime) -> None:
        error = volume_error(self._store, life.pod)
        if error:
            self.record(life.pod, "Warning", "FailedMount", error, at)
            life.mount_due = at + timedelta(seconds=SYNC * 9)
            return
        life.mounted = True
        self._start_next(life, at)
        update_conditions(life.conditions, life.lives, at)

    def _start_next(self, life: PodLife, at: datetime) -> None:
        """Starts the next init container when the one before has succeeded, then all the others at once."""
        for one in life.lives:
            if one.init and not one.succeeded:
                if one.stage == "idle":
                    one.start(at)
                return
        for one in life.lives:
            if not one.init and one.stage == "idle":
                one.start(at)

    def _write(self, life: PodLife, pod: Obj) -> None:
        status = {
            **pod["status"],
            "phase": phase(life.lives),
            "conditions": [dict(item) for item in life.conditions],
            "hostIP": self._host_ip(pod),
            "hostIPs": [{"ip": self._host_ip(pod)}],
            "startTime": rfc3339(life.started),
            **container_statuses(life.lives),
        }
        if life.mounted:
            status |= {"podIP": life.ip, "podIPs": [{"ip": life.ip}]}
        if status != pod["status"]:
            life.pod = self._store.replace("pods", {**pod, "status": status})
        life.written = life.pod
        for one in life.lives:
            one.pod = life.pod

    def _host_ip(self, pod: Obj) -> str:
        node = self._store.get("nodes", "", pod["spec"]["nodeName"])
        return str(node["status"]["addresses"][0]["address"]) if node else ""

    # What the containers' lives ask for.

    def record(
        self,
        pod: Obj,
        type_: str,
        reason: str,
        message: str,
        at: datetime,
        *,
        field_path: str = "",
        times: int = 1,
        last: datetime | None = None,
    ) -> None:
        source = Source("kubelet", pod["spec"].get("nodeName", ""))
        self._recorder.record(
            pod, source, type_, reason, message, at, field_path=field_path, times=times, last=last
        )

    def fault_of(self, image: str) -> ImageFault | None:
        return self._world.images.get(image)

    def wrong_architecture(self, pod: Obj, image: str) -> bool:
        built = self._world.architectures.get(image)
        node = self._store.get("nodes", "", pod["spec"]["nodeName"])
        return built is not None and node is not None and labels_of(node)["kubernetes.io/arch"] not in built

    def config_error(self, pod: Obj, container: Obj) -> str:
        return config_error(self._store, pod, container)

    def program(self, pod: Obj, container: Obj) -> Program:
        program = self._world.program(pod, container)
        if program.fails_first:
            # Counted by the owner, so that the retry of a Job succeeds where its first pod did not.
            owner = labels_of(pod).get("batch.kubernetes.io/job-name", name_of(pod))
            tried = self._failures[owner] = self._failures.get(owner, 0) + 1
            if tried > program.fails_first:
                return Program(program.start, program.steady, runs_for=program.runs_for)
        return program

    def has_image(self, pod: Obj, image: str) -> bool:
        key = (pod["spec"]["nodeName"], image)
        known = key in self._images
        if self.fault_of(image) is None:
            self._images.add(key)
        return known

    def new_container_id(self) -> str:
        return f"containerd://{self._rng.getrandbits(256):064x}"
