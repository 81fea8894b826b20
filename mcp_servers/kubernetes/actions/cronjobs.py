"""Running a CronJob now, as `kubectl create job --from` does."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from mcp_servers.cluster.access import Right, require
from mcp_servers.cluster.answers import Refused
from mcp_servers.cluster.connection import segment
from mcp_servers.cluster.objects import KEY, MANAGER, Name, Namespace, Objects, look, said
from mcp_servers.cluster.waiting import Time, watched
from opswarm.actions.action import Action, Done, Happened, Intent, Plan, Verification
from opswarm.errors import InvalidInput, NotFound
from opswarm.guard.risk import Risk
from opswarm.guard.targets import Verb
from opswarm.mcp.tools import ToolSpec

INSTANTIATE = "cronjob.kubernetes.io/instantiate"
_WAIT = 120.0
_LONGEST_NAME = 63
"""Of a Job: its name becomes a label of its pods."""


class CronJobs:
    """Running CronJobs of one cluster."""

    def __init__(self, objects: Objects, by: Time) -> None:
        self._objects, self._by = objects, by
        self._cluster = objects.cluster

    def specs(self) -> list[ToolSpec]:
        action = Action(self._perform, self._probe, self._verify, verify_seconds=_WAIT + 30)
        return [ToolSpec(self.trigger_cronjob, read_only=False, risk=Risk.SAFE, action=action)]

    async def trigger_cronjob(self, name: Name, namespace: Namespace) -> Plan:
        """Run a CronJob once, now: makes a Job from its template."""
        found = await self._objects.find(Verb.TRIGGER, "cronjobs.batch", name, namespace)
        await require(self._cluster, (Right("batch", "jobs", "create"),), namespace)
        policy, running = found.spec.get("concurrencyPolicy", "Allow"), len(found.status.get("active") or ())
        risk, lines = Risk.SAFE, [f"Schedule: {said(found.spec.get('schedule'))}"]
        if found.spec.get("suspend"):
            risk = Risk.RISKY
            lines.append("It is suspended: somebody has stopped it from running by itself.")
        if running and policy != "Allow":
            risk = Risk.RISKY
            lines.append(f"One of its Jobs is running, and its own schedule would not start another ({said(policy)}).")
        return Plan(
            f"Run {found} once, now.",
            (found.target(Verb.TRIGGER),),
            risk,
            "\n".join(lines),
            found.state(name=found.name, namespace=found.namespace, generation=found.meta.get("generation")),
        )

    async def _perform(self, intent: Intent) -> Done:
        cron = await look(self._cluster, intent)
        if cron is None or cron["metadata"].get("generation") != intent.state["generation"]:
            raise InvalidInput(f"{intent.state['object']} was changed in the meantime; nothing was done.")
        try:
            await self._cluster.post(_jobs(intent), job_of(cron, intent), MANAGER)
        except Refused as error:
            # Nobody else makes this name: where it exists, an earlier try of ours was not heard of.
            if error.reason != "AlreadyExists" or await self._probe(intent) is not Happened.YES:
                raise
        return Done(f"The Job {intent.state['namespace']}/{_name(intent)} is started.", {"job": _name(intent)})

    async def _probe(self, intent: Intent) -> Happened:
        try:
            job = (await self._cluster.get(f"{_jobs(intent)}/{_name(intent)}")).json()
        except NotFound:
            return Happened.NO
        return Happened.YES if _is_ours(job, intent) else Happened.UNKNOWN

    async def _verify(self, intent: Intent) -> Verification:
        named = f"Job {intent.state['namespace']}/{_name(intent)}"

        async def seen() -> Verification:
            try:
                job = (await self._cluster.get(f"{_jobs(intent)}/{_name(intent)}")).json()
            except NotFound:
                return Verification(False, f"{named} is gone.")
            if not _is_ours(job, intent):
                return Verification(False, f"{named} is another one by now.")
            status = job.get("status") or {}
            for condition in status.get("conditions") or ():
                if condition.get("status") == "True" and condition.get("type") == "Complete":
                    return Verification(True, f"{named} has completed.")
                if condition.get("status") == "True" and condition.get("type") == "Failed":
                    why = said(condition.get("message") or condition.get("reason") or "")
                    return Verification(False, f"{named} has failed: {why}.")
            failed = f", {status['failed']} of its pods have failed" if status.get("failed") else ""
            return Verification(None, f"{named} is still running{failed}.")

        return await watched(seen, _WAIT, self._by)


def job_of(cron: Mapping[str, Any], intent: Intent) -> dict[str, Any]:
    """The Job that a CronJob's template makes, under the name that belongs to the intent's key."""
    template = (cron.get("spec") or {}).get("jobTemplate") or {}
    metadata = template.get("metadata") or {}
    annotations = {**(metadata.get("annotations") or {}), INSTANTIATE: "manual", KEY: intent.key}
    owner = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "name": cron["metadata"]["name"],
        "uid": cron["metadata"]["uid"],
        "controller": True,
    }
    made: dict[str, Any] = {"name": _name(intent), "namespace": intent.state["namespace"], "annotations": annotations}
    if labels := metadata.get("labels"):
        made["labels"] = labels
    made["ownerReferences"] = [owner]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": made, "spec": template.get("spec") or {}}


def _is_ours(job: Mapping[str, Any], intent: Intent) -> bool:
    return bool((job["metadata"].get("annotations") or {}).get(KEY) == intent.key)


def _name(intent: Intent) -> str:
    """The Job's name: always the same for one key, so that it is made once however often it is tried."""
    digest = hashlib.sha256(intent.key.encode()).hexdigest()[:10]
    end = f"-manual-{digest}"
    return str(intent.state["name"])[: _LONGEST_NAME - len(end)].rstrip("-.") + end


def _jobs(intent: Intent) -> str:
    return f"/apis/batch/v1/namespaces/{segment(str(intent.state['namespace']))}/jobs"
