"""`make demo`: one story from start to end, checked against the truth that the scenarios carry.

It drives the installed command line as a person would, with its own home folder and on free ports, so it touches
nothing of yours. Exits 0 when every answer named the truth and everything stopped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.scenarios import Scenario, available

_TOGETHER = ("oom", "image-typo", "missing-config", "ingress-no-backend", "cronjob-failing")
_ALONE = ("node-not-ready", "exec-format")
_GITOPS = (
    "flux-dependency", "flux-release-exhausted", "flux-sops-key", "flux-build-failed", "flux-source-auth",
    "flux-forgotten", "certificate-failed", "dns-broken", "volsync-locked", "disk-full",
)  # fmt: skip
_NOTHING_WRONG = (
    "healthy-finished-job", "healthy-scaled-to-zero", "healthy-suspended-cronjob", "healthy-watchdog",
    "healthy-forbidden-order",
)  # fmt: skip
_ASKED = ("diagnose", "flux_diagnose")
"""What the devops agent asks where one asks it what is broken."""

_SECONDS = 90


@dataclass(frozen=True)
class Swarm:
    """The command line, in a home folder of its own."""

    home: Path

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OPSWARM_")}
        environment |= {
            "OPSWARM_HOME": str(self.home),
            "OPSWARM_SERVER__PORT": "0",
            "OPSWARM_METRICS__PORT": "0",
            "OPSWARM_LAB__PORT": "0",
            "OPSWARM_LAB__BESIDE": "github",
            "OPSWARM_MODELS__STANDARD": "offline/playbook",
            "OPSWARM_MODELS__FAST": "offline/playbook",
        }
        command = [sys.executable, "-m", "opswarm.cli.main", *words]
        return subprocess.run(
            command, env=environment, cwd=self.home, capture_output=True, text=True, timeout=_SECONDS, check=False
        )


class Story:
    """Tells what is done, and remembers what was not as it should be."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def tell(self, text: str) -> None:
        print(text, flush=True)

    def check(self, what: str, holds: bool, seen: str = "") -> None:
        self.tell(f"   {'✓' if holds else '✗'} {what}")
        if not holds:
            self.faults.append(what)
            self.tell("\n".join(f"     | {line}" for line in seen.splitlines()[-40:]))


def _ask(story: Story, swarm: Swarm, question: str) -> str:
    story.tell(f"\n$ opswarm ask {question!r}")
    began = time.monotonic()
    asked = swarm.run("ask", question)
    story.check(f"answered in {time.monotonic() - began:.1f} s", asked.returncode == 0, asked.stdout + asked.stderr)
    return asked.stdout


def _checked(story: Story, scenario: Scenario, answer: str) -> None:
    """The answer names the broken object, and quotes what the cluster itself says about it."""
    truth = scenario.truth
    story.check(f"{scenario.name}: names {truth.object}", str(truth.object) in answer, answer)
    if not truth.evidence_contains:
        return
    quoted = [text for text in truth.evidence_contains if text in answer]
    story.check(f"{scenario.name}: quotes {quoted or truth.evidence_contains}", bool(quoted), answer)


def _call(story: Story, swarm: Swarm, scenario: Scenario) -> str:
    words = [f"{key}={value}" for key, value in scenario.arguments.items()]
    story.tell(f"\n$ opswarm call {' '.join([scenario.tool, *words])}")
    called = swarm.run("call", scenario.tool, *words)
    story.check("answered", called.returncode == 0, called.stdout + called.stderr)
    return called.stdout


def _act(story: Story, swarm: Swarm, scenarios: Sequence[Scenario]) -> None:
    names = ",".join(s.name for s in scenarios) or "none"
    story.tell(f"\n$ opswarm up --detach --scenario {names}")
    began = time.monotonic()
    up = swarm.run("up", "--detach", "--scenario", names)
    story.check(f"up in {time.monotonic() - began:.1f} s", up.returncode == 0, up.stdout + up.stderr)
    if up.returncode != 0:
        return
    try:
        answer = _ask(story, swarm, "what is broken in my cluster?")
        wrong = [s for s in scenarios if not s.truth.healthy]
        plain = [s for s in wrong if s.tool in _ASKED and not s.arguments]
        if not wrong:
            story.check("where nothing is wrong there are no findings", "No problems found" in answer, answer)
        for scenario in wrong:
            _checked(story, scenario, answer if scenario in plain else _call(story, swarm, scenario))
        for scenario in plain[:2]:
            _checked(story, scenario, _ask(story, swarm, f"why is {scenario.truth.object.name} failing?"))
        listed = _ask(story, swarm, "list the namespaces")
        story.check("lists what is there", "flux-system" in listed, listed)
        refused = _ask(story, swarm, "delete the pod sonarr in media")
        story.check("says that it can't change anything", "can't change anything" in refused, refused)
    finally:
        began = time.monotonic()
        down = swarm.run("down")
        story.check(f"down in {time.monotonic() - began:.1f} s", down.returncode == 0, down.stderr)


def main() -> int:
    """Runs the story; the exit code."""
    known = {s.name: s for s in available()}
    story = Story()
    acts = [[known[n] for n in names] for names in (_TOGETHER, *((n,) for n in _ALONE), _GITOPS, _NOTHING_WRONG, ())]
    with tempfile.TemporaryDirectory(prefix="opswarm-demo-") as folder:
        swarm = Swarm(Path(folder))
        for scenarios in acts:
            _act(story, swarm, scenarios)
    story.tell("\nEverything was as it should be." if not story.faults else f"\n{len(story.faults)} faults.")
    return 1 if story.faults else 0


if __name__ == "__main__":
    sys.exit(main())
