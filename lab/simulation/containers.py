"""The life of one container under a kubelet: pull, configure, run, crash, back off, again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from lab.objects import Obj, name_of, namespace_of, uid_of
from lab.simulation.images import pull_error, pulled_message
from lab.simulation.world import ImageFault, Program, memory_limit
from lab.times import go_duration

FIRST_BACKOFF = 10.0
LONGEST_BACKOFF = 300.0
RESET_AFTER = 600.0
"""A container that ran this long starts its back-off anew (kubelet: twice the longest back-off)."""
SYNC = 13.0
"""Seconds between a kubelet's looks at a pod that waits; each look repeats the event."""


class Host(Protocol):
    """What a container's life needs from the kubelet."""

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
    ) -> None: ...
    def fault_of(self, image: str) -> ImageFault | None: ...
    def wrong_architecture(self, pod: Obj, image: str) -> bool: ...
    def config_error(self, pod: Obj, container: Obj) -> str: ...
    def program(self, pod: Obj, container: Obj) -> Program: ...
    def has_image(self, pod: Obj, image: str) -> bool: ...
    def new_container_id(self) -> str: ...


@dataclass
class Run:
    """One start of the program, and its end if it has ended."""

    started: datetime
    container_id: str
    ended: datetime | None = None
    exit_code: int = 0
    reason: str = "Completed"
    lines: tuple[str, ...] = ()
    program: Program = field(default_factory=Program)
    later: tuple[datetime, Program] | None = None
    """From this instant on the program writes other lines, without having been restarted."""


@dataclass
class ContainerLife:
    pod: Obj
    spec: Obj
    init: bool
    host: Host
    stage: str = "idle"
    due: datetime | None = None
    ready_due: datetime | None = None
    ready: bool = False
    waiting: tuple[str, str] = ("PodInitializing", "")
    restarts: int = 0
    run: Run | None = None
    last: Run | None = None
    _backoff: float = 0.0
    _pull_backoff: float = 0.0
    _since: datetime | None = None
    _told: int = 0

    @property
    def image(self) -> str:
        return str(self.spec["image"])

    @property
    def field_path(self) -> str:
        return f"spec.{'initContainers' if self.init else 'containers'}{{{self.spec['name']}}}"

    @property
    def running(self) -> bool:
        return self.stage == "running"

    @property
    def succeeded(self) -> bool:
        return self.stage == "finished" and self.run is not None and self.run.exit_code == 0

    def next_due(self) -> datetime | None:
        """When this container changes next, if it will."""
        times = [at for at in (self.due, self.ready_due) if at is not None]
        return min(times) if times else None

    def step(self, at: datetime) -> None:
        """Makes the change that is due at `at`."""
        self.tell_repeats(at)
        if self.ready_due is not None and self.ready_due <= at:
            self.ready, self.ready_due = True, None
            return
        steps: dict[str, Callable[[datetime], None]] = {
            "pulling": self._pulled,
            "pull-failed": self._pull_backs_off,
            "pull-backoff": self.start,
            "config-error": self._configure_again,
            "running": self._exit,
            "exited": self._exited,
            "backoff": self._restart,
        }
        steps[self.stage](at)

    def _enter(self, stage: str, at: datetime, seconds: float | None) -> None:
        self.stage = stage
        self.due = None if seconds is None else at + timedelta(seconds=seconds)
        self._since, self._told = at, 0

    def _record(self, type_: str, reason: str, message: str, at: datetime) -> None:
        self.host.record(self.pod, type_, reason, message, at, field_path=self.field_path)

    def start(self, at: datetime) -> None:
        """Begins with the image."""
        if self.host.has_image(self.pod, self.image) and self.host.fault_of(self.image) is None:
            self._record("Normal", "Pulled", f'Container image "{self.image}" already present on machine', at)
            self._configure(at)
            return
        self._record("Normal", "Pulling", f'Pulling image "{self.image}"', at)
        if self.stage == "idle":
            self.waiting = ("ContainerCreating", "")
        self._enter("pulling", at, 1.1 if self.host.fault_of(self.image) else 2.4)

    def _pulled(self, at: datetime) -> None:
        fault = self.host.fault_of(self.image)
        if fault is None:
            self._record("Normal", "Pulled", pulled_message(self.image), at)
            self._configure(at)
            return
        error = pull_error(fault, self.image)
        self._record("Warning", "Failed", f'Failed to pull image "{self.image}": {error}', at)
        self._record("Warning", "Failed", "Error: ErrImagePull", at)
        self.waiting = ("ErrImagePull", error)
        self._enter("pull-failed", at, SYNC)

    def _pull_backs_off(self, at: datetime) -> None:
        self._pull_backoff = min(max(self._pull_backoff * 2, FIRST_BACKOFF), LONGEST_BACKOFF)
        message = f'Back-off pulling image "{self.image}"'
        self.waiting = ("ImagePullBackOff", f"{message}: ErrImagePull: {self.waiting[1]}")
        self._record("Normal", "BackOff", message, at)
        self._record("Warning", "Failed", "Error: ImagePullBackOff", at)
        self._enter("pull-backoff", at, self._pull_backoff)

    def _configure_again(self, at: datetime) -> None:
        self._record("Normal", "Pulled", f'Container image "{self.image}" already present on machine', at)
        self._configure(at)

    def _configure(self, at: datetime) -> None:
        error = self.host.config_error(self.pod, self.spec)
        if error:
            self.waiting = ("CreateContainerConfigError", error)
            self._record("Warning", "Failed", f"Error: {error}", at)
            self._enter("config-error", at, SYNC)
            return
        self._record("Normal", "Created", f"Created container: {self.spec['name']}", at)
        self._record("Normal", "Started", f"Started container {self.spec['name']}", at)
        self._begin(at)

    def _begin(self, at: datetime) -> None:
        program = self.host.program(self.pod, self.spec)
        self.last = self.run or self.last
        self.run = Run(at, self.host.new_container_id(), program=program)
        self._enter("running", at, self._plan_end(self.run, at))
        faulty = program.faulty_in(self.spec)
        self.ready_due = (
            None if program.readiness_error and faulty else at + timedelta(seconds=self._ready_after())
        )

    def _ready_after(self) -> float:
        assert self.run is not None
        probe = self.spec.get("readinessProbe") or {}
        if not probe:
            return 0.5
        return max(self.run.program.ready_after, float(probe.get("initialDelaySeconds", 0)))

    def _plan_end(self, run: Run, at: datetime) -> float | None:
        """Seconds until this run ends, with how it ends written into the run."""
        program, faulty = run.program, run.program.faulty_in(self.spec)
        if self.host.wrong_architecture(self.pod, self.image):
            command = (self.spec.get("command") or ["/usr/local/bin/docker-entrypoint.sh"])[0]
            run.exit_code, run.reason = 255, "Error"
            run.program = Program()
            run.lines = (f"exec {command}: exec format error",)
            return 0.2
        if faulty and program.needs_memory > memory_limit(self.spec):
            run.exit_code, run.reason = 137, "OOMKilled"
            return program.crash.after if program.crash else 45.0
        if faulty and program.crash and not program.needs_memory:
            run.exit_code, run.reason, run.lines = (
                program.crash.exit_code,
                program.crash.reason,
                program.crash.lines,
            )
            return program.crash.after
        if faulty and program.liveness_error and (probe := self.spec.get("livenessProbe")):
            run.exit_code, run.reason = 137, "Error"
            return (
                _probe_delay(probe)
                + _probe_period(probe) * (int(probe.get("failureThreshold", 3)) - 1)
                + 30.0
            )
        later = [one for one in program.restarted if one > at]
        if later:
            run.exit_code, run.reason = 1, "Error"
            return (min(later) - at).total_seconds()
        return program.runs_for

    def _exit(self, at: datetime) -> None:
        assert self.run is not None
        self.run.ended = at
        self.ready, self.ready_due = False, None
        policy = self.pod["spec"].get("restartPolicy", "Always")
        # An init container that succeeded is never run again, whatever the policy.
        again = policy == "Always" and not (self.init and self.run.exit_code == 0)
        if again or (policy != "Never" and self.run.exit_code != 0):
            self._enter("exited", at, 1.2)
        else:
            self._enter("finished", at, None)

    def _exited(self, at: datetime) -> None:
        assert self.run is not None and self.run.ended is not None
        if (self.run.ended - self.run.started).total_seconds() >= RESET_AFTER:
            self._backoff = 0.0
        if not self._backoff:
            self._backoff = FIRST_BACKOFF
            self._restart(at)
            return
        span = go_duration(timedelta(seconds=self._backoff))
        name = self.spec["name"]
        self.waiting = (
            "CrashLoopBackOff",
            f"back-off {span} restarting failed container={name} "
            f"pod={name_of(self.pod)}_{namespace_of(self.pod)}({uid_of(self.pod)})",
        )
        self._enter("backoff", at, self._backoff)
        self.tell_repeats(at + timedelta(seconds=0))
        self._backoff = min(self._backoff * 2, LONGEST_BACKOFF)

    def _restart(self, at: datetime) -> None:
        self.restarts += 1
        self._configure_again(at)

    def tell_repeats(self, at: datetime) -> None:
        """Records what the kubelet says again and again in this stage, up to `at`."""
        if self._since is None:
            return
        for kind, reason, message, first, period in self._repeats():
            count = int(((at - self._since).total_seconds() - first) // period) + 1
            if count > self._told:
                start = self._since + timedelta(seconds=first + period * self._told)
                last = self._since + timedelta(seconds=first + period * (count - 1))
                self.host.record(
                    self.pod,
                    kind,
                    reason,
                    message,
                    start,
                    field_path=self.field_path,
                    times=count - self._told,
                    last=last,
                )
                self._told = count

    def _repeats(self) -> list[tuple[str, str, str, float, float]]:
        if self.stage == "backoff":
            pod = f"{name_of(self.pod)}_{namespace_of(self.pod)}({uid_of(self.pod)})"
            message = f"Back-off restarting failed container {self.spec['name']} in pod {pod}"
            return [("Warning", "BackOff", message, 0.0, SYNC)]
        if self.stage == "pull-backoff":
            return [("Normal", "BackOff", f'Back-off pulling image "{self.image}"', SYNC, SYNC)]
        if self.stage == "running" and self.run is not None and self.run.program.faulty_in(self.spec):
            return self._probe_repeats(self.run.program)
        return []

    def _probe_repeats(self, program: Program) -> list[tuple[str, str, str, float, float]]:
        for kind, error in (("liveness", program.liveness_error), ("readiness", program.readiness_error)):
            probe = self.spec.get(f"{kind}Probe")
            if error and probe:
                message = f"{kind.capitalize()} probe failed: {self._fill(error)}"
                return [("Warning", "Unhealthy", message, _probe_delay(probe), _probe_period(probe))]
        return []

    def _fill(self, text: str) -> str:
        return text.replace("{ip}", (self.pod.get("status") or {}).get("podIP", "10.42.0.1"))


def _probe_delay(probe: Obj) -> float:
    return float(probe.get("initialDelaySeconds", 0)) + 1.0


def _probe_period(probe: Obj) -> float:
    return float(probe.get("periodSeconds", 10))
