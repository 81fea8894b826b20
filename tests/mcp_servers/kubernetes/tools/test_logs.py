from __future__ import annotations

import time
from typing import Any

import pytest

from tests.mcp_servers.kubernetes.tools.bench import Bench, Said
from tests.mcp_servers.kubernetes.tools.stand_in import StandIn, pod

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def logged(stand_in: StandIn, log: str, pods: list[dict[str, Any]] | None = None, **arguments: Any) -> Said:
    """What pods_log says about a pod `web` with this log."""
    stand_in.objects, stand_in.log = {"pods": pods or [pod()]}, log
    return await stand_in.tools.say("pods_log", **{"pod": "web", **arguments})


async def chosen(stand_in: StandIn, made: dict[str, Any], **arguments: Any) -> str:
    """The container that pods_log reads of a pod."""
    return str((await logged(stand_in, "x\n", [made], **arguments)).data["container"])


def running(name: str, *, ready: bool = True, **more: Any) -> dict[str, Any]:
    return {"name": name, "ready": ready, "state": {"running": {}}, "restartCount": 0, **more}


async def test_a_pod_is_found_by_the_beginning_of_its_name(bench: Bench) -> None:
    for pod_name in ("overseerr", "overseerr-", "overse"):
        said = await bench.say("pods_log", pod=pod_name, tail=5)
        assert said.lines[0].startswith("Log of media/overseerr-")
        assert "5 of 5 lines shown" in said.lines[0]
        assert len(said.lines) == 6


async def test_an_ambiguous_beginning_lists_the_choices(bench: Bench) -> None:
    said = await bench.refuse("pods_log", pod="post", namespace="database")
    assert "fits several pods: database/postgres-0, database/postgres-1" in said


async def test_the_exact_name_wins_over_a_longer_one(stand_in: StandIn) -> None:
    said = await logged(stand_in, "x\n", [pod("web-1"), pod("web")])
    assert said.data["pod"] == "web"


async def test_of_several_pods_of_one_owner_the_least_healthy_is_read(stand_in: StandIn) -> None:
    pods = [
        pod("web-a", status={"phase": "Succeeded", "containerStatuses": [{"name": "app", "ready": False}]}),
        pod("web-b", status={"phase": "Running", "containerStatuses": [running("app")]}),
        pod("web-c", status={"phase": "Failed", "containerStatuses": [{"name": "app", "ready": False}]}),
    ]
    for one in pods:
        one["metadata"]["ownerReferences"] = [{"uid": "1"}]
    said = await logged(stand_in, "x\n", pods)
    assert said.data["pod"] == "web-c"
    assert "one of 3 pods of its owner" in said.lines[0]


async def test_a_pod_that_is_not_there_is_said_to_be_missing(bench: Bench) -> None:
    assert "No pod is named 'nowhere' in namespace media" in await bench.refuse(
        "pods_log", pod="nowhere", namespace="media"
    )


@pytest.mark.parametrize("trick", ["../x", "%2e%2e", "a?b", "sonarr\n", "-", "", "a/b"])
async def test_a_pod_name_that_could_leave_its_place_in_the_path_is_refused(bench: Bench, trick: str) -> None:
    assert "is not a Kubernetes name" in await bench.refuse("pods_log", pod=trick)


async def test_an_unknown_container_brings_the_containers_there_are(bench: Bench) -> None:
    said = await bench.refuse("pods_log", pod="overseerr", container="sidecar")
    assert "has no container 'sidecar'" in said
    assert "It has: app" in said


async def test_a_waiting_container_is_one_clear_sentence(bench: Bench) -> None:
    listed = await bench.get("/api/v1/pods")
    waiting = [
        p["metadata"] for p in listed["items"] for s in p["status"].get("containerStatuses", [])
        if s.get("state", {}).get("waiting", {}).get("reason") in ("ImagePullBackOff", "ErrImagePull")
    ]  # fmt: skip
    said = await bench.refuse("pods_log", pod=waiting[0]["name"], namespace=waiting[0]["namespace"])
    assert "is waiting to start" in said
    assert "\n" not in said


async def test_the_failing_init_container_is_read_by_default(bench: Bench) -> None:
    listed = await bench.get("/api/v1/pods")
    failing = [
        (p["metadata"]["name"], s["name"]) for p in listed["items"]
        for s in p["status"].get("initContainerStatuses", []) if not s["ready"]
    ]  # fmt: skip
    name, container = failing[0]
    assert (await bench.say("pods_log", pod=name)).data["container"] == container


async def test_the_run_before_the_last_restart_can_be_read(bench: Bench) -> None:
    said = await bench.say("pods_log", pod="sonarr", previous=True)
    assert "(previous run)" in said.lines[0]
    listed = await bench.get("/api/v1/pods")
    steady = next(
        p["metadata"] for p in listed["items"] if p["status"].get("containerStatuses")
        and not any(s.get("lastState") for s in p["status"]["containerStatuses"])
    )  # fmt: skip
    where = {"pod": steady["name"], "namespace": steady["namespace"]}
    assert "not found" in await bench.refuse("pods_log", previous=True, **where)


async def test_since_reads_only_the_last_while(bench: Bench) -> None:
    whole = await bench.say("pods_log", pod="overseerr", tail=1000)
    recent = await bench.say("pods_log", pod="overseerr", tail=1000, since="10m")
    assert recent.data["read"] < whole.data["read"]


@pytest.mark.parametrize("since", ["yesterday", "-5m", "5", "1h30m", "5w", "\uff19m"])
async def test_a_duration_that_cannot_be_read_is_explained(bench: Bench, since: str) -> None:
    assert "Write it like 15m, 2h or 1d." in await bench.refuse("pods_log", pod="overseerr", since=since)


@pytest.mark.parametrize("tail", [0, 1001])
async def test_tail_has_bounds(bench: Bench, tail: int) -> None:
    assert "tail must be from 1 to 1000" in await bench.refuse("pods_log", pod="overseerr", tail=tail)


async def test_include_and_exclude_filter_and_the_count_says_of_how_many(stand_in: StandIn) -> None:
    log = "".join(f"2026-01-01T00:00:00.0Z {'ERROR' if n % 2 else 'info'} {n}\n" for n in range(10))
    said = await logged(stand_in, log, include="error", exclude="[37]$")
    assert [line.split()[-1] for line in said.lines[1:]] == ["1", "5", "9"]
    assert "3 of 10 lines shown" in said.lines[0]


async def test_a_filter_reads_further_back_than_the_tail(stand_in: StandIn) -> None:
    log = "t needle\n" + "t hay\n" * 3000
    said = await logged(stand_in, log, include="needle", tail=10)
    assert "1 of 3001 lines shown" in said.lines[0]


async def test_an_anchor_means_the_beginning_of_the_message_not_of_its_timestamp(stand_in: StandIn) -> None:
    log = "2026-01-01T00:00:00.000000000Z ERROR one\n2026-01-01T00:00:01.000000000Z info ERROR\n"
    assert len((await logged(stand_in, log, include="^error")).data["lines"]) == 1
    assert len((await logged(stand_in, log, exclude="^error")).data["lines"]) == 1
    assert len((await logged(stand_in, log, include="00:00:01")).data["lines"]) == 1


async def test_a_catastrophic_pattern_on_a_long_line_returns_fast(stand_in: StandIn) -> None:
    began = time.monotonic()
    said = await logged(stand_in, "a" * 500_000 + "!\n", include="(a+)+$")
    assert "0 of 1 lines shown" in said.lines[0]
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("pattern", ["(", "[", "*a", "a(?=b)", r"(a)\1", "(a{1000}){1000}"])
async def test_a_pattern_that_cannot_be_used_is_one_sentence(
    bench: Bench, pattern: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for field in ("include", "exclude"):
        said = await bench.refuse("pods_log", pod="overseerr", **{field: pattern})
        assert said.startswith(f"{field}: ")
        assert "is not a regular expression" in said
    assert capfd.readouterr().err == ""


async def test_a_pattern_may_not_be_endless(bench: Bench) -> None:
    assert "longer than 200" in await bench.refuse("pods_log", pod="overseerr", include="a" * 201)


async def test_a_log_too_long_to_show_keeps_its_newest_lines(stand_in: StandIn) -> None:
    log = "".join(f"line {n} {'x' * 300}\n" for n in range(200))
    said = await logged(stand_in, log, tail=150)
    assert said.lines[-1].startswith("line 199 ")
    assert f"{len(said.lines) - 1} of 150 lines shown" in said.lines[0]
    assert said.data["lines"] == said.lines[1:]
    assert "narrow by" in said.lines[0]


async def test_a_log_of_huge_lines_still_ends_with_the_newest(stand_in: StandIn) -> None:
    log = "".join(f"line {n} {'x' * 30_000}\n" for n in range(200))
    said = await logged(stand_in, log, tail=150)
    assert said.lines[-1].startswith("line 199 ")
    filtered = await logged(stand_in, log, include="line", tail=5)
    assert [line.split()[1] for line in filtered.lines[1:]] == ["195", "196", "197", "198", "199"]


async def test_a_long_line_is_cut_visibly(stand_in: StandIn) -> None:
    said = await logged(stand_in, "y" * 2000 + "\n")
    assert said.lines[1].endswith("…")
    assert len(said.lines[1]) <= 501


async def test_a_line_cannot_fake_another_with_exotic_line_ends_or_escapes(stand_in: StandIn) -> None:
    said = await logged(stand_in, "2026 one\u2028fake\u0085fake\x1b[31mred\u202e\n2026 two\n")
    assert "2 of 2 lines shown" in said.lines[0]
    assert len(said.text.splitlines()) == 3
    assert "\x1b" not in said.text
    assert "\u202e" not in said.text


async def test_an_empty_log_is_said_to_be_empty(stand_in: StandIn) -> None:
    said = await logged(stand_in, "", since="5m")
    assert said.text == "The log of default/web container app is empty in the last 5m."


async def test_the_container_that_fails_is_read(stand_in: StandIn) -> None:
    crash = {"name": "b", "ready": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    made = pod(containers=("a", "b"), status={"containerStatuses": [running("a"), crash]})
    assert await chosen(stand_in, made) == "b"


async def test_a_container_that_runs_but_is_not_ready_is_read_before_a_ready_one(stand_in: StandIn) -> None:
    made = pod(containers=("a", "b"), status={"containerStatuses": [running("a"), running("b", ready=False)]})
    assert await chosen(stand_in, made) == "b"


async def test_while_a_pod_initializes_the_running_init_container_is_read(stand_in: StandIn) -> None:
    made = pod(
        spec={"initContainers": [{"name": "setup"}]},
        status={
            "initContainerStatuses": [running("setup", ready=False)],
            "containerStatuses": [{"name": "app", "ready": False, "state": {"waiting": {"reason": "PodInitializing"}}}],
        },
    )
    assert await chosen(stand_in, made) == "setup"


async def test_for_the_previous_run_a_container_that_had_one_is_read(stand_in: StandIn) -> None:
    ended: dict[str, Any] = {"lastState": {"terminated": {"exitCode": 137}}, "restartCount": 3}
    made = pod(containers=("a", "b"), status={"containerStatuses": [running("a"), running("b", **ended)]})
    assert await chosen(stand_in, made, previous=True) == "b"
    assert await chosen(stand_in, made) == "a"


async def test_of_healthy_containers_the_annotated_default_is_read(stand_in: StandIn) -> None:
    made = pod(
        containers=("proxy", "app"),
        annotations={"kubectl.kubernetes.io/default-container": "app"},
        status={"containerStatuses": [running("proxy"), running("app")]},
    )
    assert await chosen(stand_in, made) == "app"


async def test_an_ephemeral_container_can_be_read(stand_in: StandIn) -> None:
    made = pod(spec={"ephemeralContainers": [{"name": "debugger-x2k"}]})
    assert await chosen(stand_in, made, container="debugger-x2k") == "debugger-x2k"
