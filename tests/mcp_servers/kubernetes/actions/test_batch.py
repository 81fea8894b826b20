"""Clearing away what has ended, and running a CronJob now."""

from __future__ import annotations

import asyncio

import pytest

from mcp_servers.cluster.objects import KEY
from opswarm.actions.action import Happened
from opswarm.errors import InvalidInput
from opswarm.guard.risk import Risk
from tests.mcp_servers.kubernetes.actions.stage import Stage

JOBS = "/apis/batch/v1/namespaces/media/jobs"
CRON = {"name": "recyclarr", "namespace": "media"}


async def test_finished_jobs_go_with_their_pods(stage: Stage) -> None:
    names = ["schema-migrate", "postgres-backup-29401620"]
    act = await stage.plan("delete_finished", kind="jobs", namespace="database", names=names)
    assert act.plan.summary == "Delete 2 jobs in database that ended."
    assert [t.name for t in act.plan.touches] == sorted(names)
    assert "- Job database/schema-migrate: complete (CompletionsReached)" in act.plan.preview
    assert await act.probe() is Happened.NO
    await act.perform()
    assert await act.probe() is Happened.YES
    assert (await act.verify()).ok is True
    stage.run(4)
    pods = "/api/v1/namespaces/database/pods"
    assert await stage.names(pods, labelSelector="job-name=schema-migrate") == []


async def test_a_finished_pod_goes_alone(stage: Stage) -> None:
    (pod,) = await stage.names("/api/v1/namespaces/media/pods", labelSelector="job-name=recyclarr-29401680")
    act = await stage.plan("delete_finished", kind="Pod", namespace="media", names=[pod])
    assert act.plan.summary == f"Delete Pod media/{pod}, which ended."
    await act.perform()
    assert (await act.verify()).text == "Nothing of it is left."


async def test_what_is_running_or_never_ends_is_not_cleared_away(stage: Stage) -> None:
    pod = (await stage.pod("media", "sonarr"))["metadata"]["name"]
    running = await stage.refused("delete_finished", kind="Pod", namespace="media", names=[pod])
    assert "has not ended" in str(running)
    never = await stage.refused("delete_finished", kind="Deployment", namespace="media", names=["sonarr"])
    assert "never ends" in str(never)


@pytest.mark.parametrize("names", [[], ["a", "a"], [f"job-{i}" for i in range(21)]])
async def test_the_list_of_names_is_short_and_says_each_once(stage: Stage, names: list[str]) -> None:
    refused = await stage.refused("delete_finished", kind="Job", namespace="media", names=names)
    assert isinstance(refused, InvalidInput)


async def test_a_list_that_was_broken_off_in_between_is_unknown(stage: Stage) -> None:
    names = ["schema-migrate", "postgres-backup-29401620"]
    act = await stage.plan("delete_finished", kind="Job", namespace="database", names=names)
    await stage.http.delete("/apis/batch/v1/namespaces/database/jobs/schema-migrate")
    assert await act.probe() is Happened.UNKNOWN


async def test_a_cron_job_runs_once_for_one_key_however_often_it_is_tried(stage: Stage) -> None:
    before = await stage.names(JOBS)
    act = await stage.plan("trigger_cronjob", **CRON)
    assert (act.plan.summary, act.plan.risk) == ("Run CronJob media/recyclarr once, now.", Risk.SAFE)
    assert await act.probe() is Happened.NO
    done = await act.perform()
    assert await act.probe() is Happened.YES
    assert await act.perform() == done
    (made,) = set(await stage.names(JOBS)) - set(before)
    assert made == done.after["job"]
    job = await stage.get(f"{JOBS}/{made}")
    assert job["metadata"]["annotations"]["cronjob.kubernetes.io/instantiate"] == "manual"
    assert job["metadata"]["ownerReferences"][0]["name"] == "recyclarr"
    seen = await act.verify()
    assert (seen.ok, seen.text) == (True, f"Job media/{made} has completed.")


async def test_a_job_made_anew_under_the_name_is_not_taken_for_the_one_that_was_started(stage: Stage) -> None:
    act = await stage.plan("trigger_cronjob", **CRON)
    done = await act.perform()
    await stage.merge(f"{JOBS}/{done.after['job']}", {"metadata": {"annotations": {KEY: "another"}}})
    seen = await act.verify()
    assert seen.ok is False and "another one by now" in seen.text


async def test_another_key_is_another_job(stage: Stage) -> None:
    first = await (await stage.plan("trigger_cronjob", "one", **CRON)).perform()
    second = await (await stage.plan("trigger_cronjob", "two", **CRON)).perform()
    assert first.after["job"] != second.after["job"]


async def test_a_suspended_cron_job_is_risky_to_run(stage: Stage) -> None:
    act = await stage.plan("trigger_cronjob", name="postgres-verify", namespace="database")
    assert act.plan.risk is Risk.RISKY and "It is suspended" in act.plan.preview


async def test_a_run_next_to_a_running_one_is_risky_where_the_schedule_forbids_it(stage: Stage) -> None:
    await (await stage.plan("trigger_cronjob", "one", **CRON)).perform()
    stage.run(4)
    act = await stage.plan("trigger_cronjob", "two", **CRON)
    assert act.plan.risk is Risk.RISKY and "(Forbid)" in act.plan.preview


async def test_a_template_that_changed_since_the_plan_is_not_run(stage: Stage) -> None:
    act = await stage.plan("trigger_cronjob", **CRON)
    await stage.merge("/apis/batch/v1/namespaces/media/cronjobs/recyclarr", {"spec": {"schedule": "1 1 * * *"}})
    with pytest.raises(InvalidInput, match="was changed in the meantime"):
        await act.perform()


async def test_a_long_name_still_makes_a_jobs_name(stage: Stage) -> None:
    cron = await stage.get("/apis/batch/v1/namespaces/media/cronjobs/recyclarr")
    name = "a" * 52
    await stage.create(
        "/apis/batch/v1/namespaces/default/cronjobs", {**cron, "metadata": {"name": name, "namespace": "default"}}
    )
    done = await (await stage.plan("trigger_cronjob", name=name, namespace="default")).perform()
    assert len(done.after["job"]) <= 63


async def test_two_tries_at_the_same_instant_make_one_job(stage: Stage) -> None:
    before = await stage.names(JOBS)
    act = await stage.plan("trigger_cronjob", **CRON)
    first, second = await asyncio.gather(act.perform(), act.perform())
    assert first == second
    assert len(await stage.names(JOBS)) == len(before) + 1


async def test_a_job_of_that_name_which_is_not_ours_is_not_taken_for_it(stage: Stage) -> None:
    act = await stage.plan("trigger_cronjob", **CRON)
    made = (await act.perform()).after["job"]
    await stage.merge(f"{JOBS}/{made}", {"metadata": {"annotations": {"opswarm.dev/action": "another"}}})
    assert await act.probe() is Happened.UNKNOWN
    with pytest.raises(InvalidInput, match="already exists"):
        await act.perform()


async def test_a_job_that_is_still_running_is_not_cleared_away(stage: Stage) -> None:
    made = (await (await stage.plan("trigger_cronjob", **CRON)).perform()).after["job"]
    stage.run(2)
    refused = await stage.refused("delete_finished", kind="Job", namespace="media", names=[made])
    assert f"Job media/{made} has not ended" in str(refused)


async def test_one_that_is_running_keeps_all_that_were_named_with_it(stage: Stage) -> None:
    made = (await (await stage.plan("trigger_cronjob", **CRON)).perform()).after["job"]
    names = ["recyclarr-29401680", made]
    assert "has not ended" in str(await stage.refused("delete_finished", kind="Job", namespace="media", names=names))
    assert not await stage.gone(f"{JOBS}/recyclarr-29401680")


async def test_a_job_that_was_replaced_in_a_list_stops_it_and_says_what_went_before(stage: Stage) -> None:
    jobs = "/apis/batch/v1/namespaces/database/jobs"
    names = ["postgres-backup-29401620", "schema-migrate"]
    act = await stage.plan("delete_finished", kind="Job", namespace="database", names=names)
    act.intent.state["objects"][1]["uid"] = "00000000-0000-4000-8000-000000000000"
    done = await act.perform()
    assert done.after == {"deleted": ["Job database/postgres-backup-29401620"]}
    assert "Job database/schema-migrate was replaced in the meantime; it was left alone." in done.text
    assert not await stage.gone(f"{jobs}/schema-migrate")
