"""Making and ending silences in a real Alertmanager: planned, shown, done once, found again, and bounded."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from opswarm.actions.action import Happened
from opswarm.errors import Conflict, NotFound, OpswarmError, PermissionDenied
from opswarm.guard.limits import Limits
from opswarm.guard.risk import Risk
from tests.mcp_servers.prometheus.stage import Stage, staged
from tests.support.acting import Act
from tests.support.hosting import until

ALERTS = (
    {"alertname": "KubePodCrashLooping", "namespace": "media", "severity": "warning", "pod": "jellyfin-1"},
    {"alertname": "KubePodCrashLooping", "namespace": "kube-system", "severity": "warning", "pod": "coredns-1"},
    {"alertname": "DiskFull", "namespace": "media", "severity": "critical"},
    {"alertname": "Watchdog", "severity": "none"},
)
MATCHERS = ['alertname="KubePodCrashLooping"', 'namespace="media"']
COMMENT = "Known, a fix is on its way."


@asynccontextmanager
async def fresh(url: str) -> AsyncIterator[Stage]:
    """The tools over an Alertmanager with the four alerts and no silence."""
    async with (
        httpx.AsyncClient(base_url=f"{url}/api/v2", trust_env=False) as http,
        staged(alertmanager=url, clock=time.time) as one,
    ):
        ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        sent = [{"labels": labels, "endsAt": ends} for labels in ALERTS]
        (await http.post("/alerts", json=sent)).raise_for_status()
        for silence in (await http.get("/silences")).json():
            if silence["status"]["state"] != "expired":
                (await http.delete(f"/silence/{silence['id']}")).raise_for_status()

        async def all_active() -> bool:
            found = await one.data("alertmanager_alerts")
            return [i["state"] for i in found["items"]] == ["active"] * 4

        await until(all_active, 20)
        yield one


@pytest.fixture
async def stage(silent: str) -> AsyncIterator[Stage]:
    async with fresh(silent) as one:
        yield one


async def create(stage: Stage, key: str = "key-1", matchers: list[str] = MATCHERS, **more: Any) -> Act:
    return await stage.plan("silence_create", key, matchers=matchers, **{"comment": COMMENT, **more})


async def test_a_silence_is_shown_made_found_and_verified(stage: Stage) -> None:
    act = await create(stage, duration="90m")
    assert act.plan.summary == ('Silence alerts with alertname="KubePodCrashLooping", namespace="media" for 1h30m.')
    assert act.plan.preview == f"Why: {COMMENT}\nIt mutes now:\n- KubePodCrashLooping (warning) in media"
    assert act.plan.risk is Risk.SAFE and [str(t) for t in act.plan.touches] == [
        "silence of Alert media/kubepodcrashlooping"
    ]
    assert await act.probe() is Happened.NO
    done = await act.perform()
    assert await act.probe() is Happened.YES

    async def mutes() -> bool:
        verified = await act.verify()
        return verified.ok is True and "mutes 1 alerts" in verified.text

    await until(mutes, 10)
    listed = await stage.data("silences_list")
    (one,) = listed["items"]
    assert one["id"] == done.after["id"] and one["created_by"] == "opswarm" and one["comment"].startswith(COMMENT)
    assert sorted(one["matchers"]) == sorted(MATCHERS)
    alerts = await stage.text("alertmanager_alerts", state="silenced")
    assert alerts.startswith("1 alerts (1 silenced)") and f"silenced by {one['id'][:8]}" in alerts


async def test_a_silence_under_another_key_is_not_this_one(stage: Stage) -> None:
    first = await create(stage)
    await first.perform()
    other = await create(stage, "key-11", ['alertname="DiskFull"', 'namespace="media"'])
    assert await other.probe() is Happened.NO


async def test_the_same_silence_is_not_made_twice(stage: Stage) -> None:
    await (await create(stage)).perform()
    error = await stage.refused("silence_create", matchers=list(reversed(MATCHERS)), comment=COMMENT)
    assert isinstance(error, Conflict) and "mutes the same" in error.message


async def test_a_silence_is_ended_and_its_alerts_are_notified_about_again(stage: Stage) -> None:
    made = await (await create(stage)).perform()
    act = await stage.plan("silence_expire", "key-2", id=made.after["id"])
    assert act.plan.risk is Risk.SAFE and act.plan.preview.count("By opswarm") == 1
    assert await act.probe() is Happened.NO
    await act.perform()
    assert await act.probe() is Happened.YES and (await act.verify()).ok
    assert "No active or pending silences" in await stage.text("silences_list")
    assert made.after["id"] in await stage.text("silences_list", state="expired", limit=500)
    assert "has ended" in (await stage.refused("silence_expire", id=made.after["id"])).message


async def test_the_silence_of_a_person_is_ended_only_as_a_risk(stage: Stage, silent: str) -> None:
    now = datetime.now(UTC)
    body = {
        "matchers": [{"name": "alertname", "value": "DiskFull", "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(), "endsAt": (now + timedelta(hours=1)).isoformat(), "createdBy": "maria",
        "comment": "mine",
    }  # fmt: skip
    async with httpx.AsyncClient(trust_env=False) as http:
        made = (await http.post(f"{silent}/api/v2/silences", json=body)).json()
    act = await stage.plan("silence_expire", id=made["silenceID"])
    assert act.plan.risk is Risk.RISKY and act.plan.preview.startswith("By maria: mine\n")


async def test_a_silence_that_is_not_there_is_said(stage: Stage) -> None:
    for id in ("0b1ab6f1-1111-4111-8111-111111111111",):
        assert isinstance(await stage.refused("silence_expire", id=id), NotFound)
    for id in ("../alerts", "x y", "", "a" * 65):
        assert "is not the id" in (await stage.refused("silence_expire", id=id)).message


@pytest.mark.parametrize(
    ("matchers", "reason"),
    [
        ([], "nearly every alert"), (['alertname=~".*"'], "nearly every alert"), (['alertname=~".+"'], "nearly every"),
        (['alertname!="X"'], "nearly every alert"), (['severity!~"critical"'], "nearly every alert"),
        (['foo=""'], "nearly every alert"), (['alertname=~"|.+"', 'x!="y"'], "nearly every alert"),
        (['alertname=~"[A-Z].*"'], "nearly every"), (['severity=~"none|warning|critical"'], "watchdog"),
        (["alertname"], "is not a matcher"), (['alertname=~"("'], "is not a regular expression"),
        (['a="b"', 'a="b"'], "given twice"), ([f'a="{n}"' for n in range(21)], "more than 20"),
        (['alertname="X", namespace=~".*"'], "One matcher each"),
    ],
)  # fmt: skip
async def test_nobody_silences_everything(stage: Stage, matchers: list[str], reason: str) -> None:
    error = await stage.refused("silence_create", matchers=matchers, comment=COMMENT)
    assert reason in str(error)
    assert (await stage.data("silences_list"))["items"] == []


@pytest.mark.parametrize("duration", ["0", "30s", "8d", "1y", "forever", "-1h", "NaN", ""])
async def test_a_silence_has_an_end_and_not_a_far_one(stage: Stage, duration: str) -> None:
    error = await stage.refused("silence_create", matchers=MATCHERS, comment=COMMENT, duration=duration)
    assert "duration" in error.message


@pytest.mark.parametrize(
    "comment", ["", "   ", "why", "x" * 600, "ours [opswarm key-9]", "\u200b\u200b\u200b\u200b\u200b\u200b"]
)
async def test_a_silence_says_why(stage: Stage, comment: str) -> None:
    assert "comment" in (await stage.refused("silence_create", matchers=MATCHERS, comment=comment)).message


@pytest.mark.parametrize(
    "matchers",
    [
        ['namespace="kube-system"'], ['alertname="X"', 'namespace="flux-system"'],
        ['alertname="X"', 'namespace=~"kube-.*"'], ['alertname="X"', 'namespace=~"media|cert-manager"'],
        ['alertname="KubePodCrashLooping"'], ['pod="coredns-1"'], ['alertname="X"', 'namespace!="media"'],
        ['alertname="X"', 'namespace!~"media"'], ['alertname="Later"'], ['alertname="X"', 'namespace=~"secret-.*"'],
        ['alertname="X"', 'namespace=~"media|secret-ns.?"'], ['alertname="X"', 'namespace=~"media|kube-system"'],
    ],
)  # fmt: skip
async def test_alerts_of_protected_namespaces_are_not_muted(stage: Stage, matchers: list[str]) -> None:
    error = await stage.refused("silence_create", matchers=matchers, comment=COMMENT)
    assert isinstance(error, PermissionDenied)


@pytest.mark.parametrize(
    ("matchers", "duration", "risk"),
    [
        (MATCHERS, "4h", Risk.SAFE), (MATCHERS, "5h", Risk.RISKY),
        (['alertname="Later"', 'namespace=""'], "1h", Risk.RISKY),
        (['alertname="DiskFull"', 'namespace="media"'], "1h", Risk.RISKY),
        (['namespace="media"', 'severity="warning"'], "1h", Risk.RISKY),
        (['alertname="Watchdog"', 'namespace="media"'], "1h", Risk.RISKY),
    ],
)  # fmt: skip
async def test_the_risk_grows_with_what_is_muted_and_for_how_long(
    stage: Stage, matchers: list[str], duration: str, risk: Risk
) -> None:
    assert (await create(stage, "k", matchers, duration=duration)).plan.risk is risk


async def test_a_silence_touches_each_namespace_that_it_is_for(stage: Stage) -> None:
    act = await create(stage, "k", ['alertname="Later"', 'namespace=~"media|home"', 'namespace!="home"'])
    assert [str(t) for t in act.plan.touches] == ["silence of Alert media/later"]
    both = await create(stage, "k", ['alertname="Later"', 'namespace=~"media|home"'])
    with pytest.raises(PermissionDenied, match="home"):  # One that the policy protects.
        for touch in both.plan.touches:
            Limits(namespaces=frozenset({"home"})).check(touch)
    none = await create(stage, "k", ['alertname="Later"', 'namespace=""'])
    assert none.plan.touches == () and "It mutes nothing that fires now." in none.plan.preview


async def test_an_alertmanager_that_is_gone_is_never_a_silence_that_is_not_there(stage: Stage) -> None:
    from tests.support.hosting import free_port

    act = await create(stage)
    async with staged(alertmanager=f"http://127.0.0.1:{free_port()}", clock=time.time) as gone:
        spec = gone.tools["silence_create"]
        for look in (Act(spec, act.plan, act.intent).probe, Act(spec, act.plan, act.intent).verify):
            with pytest.raises(OpswarmError):
                await look()


async def test_without_the_switch_there_are_no_actions(silent: str) -> None:
    async with staged(alertmanager=silent, actions=False) as one:
        assert sorted(one.tools) == ["alertmanager_alerts", "silences_list"]
