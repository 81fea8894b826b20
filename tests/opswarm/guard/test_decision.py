"""What becomes of a call, by the table and around it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opswarm.errors import PermissionDenied
from opswarm.guard.decision import Call, Decision, assess, decide
from opswarm.guard.paths import Commit, FileChange
from opswarm.guard.policy import DEFAULT, Policy
from opswarm.guard.principal import Kind, Principal, Role
from opswarm.guard.risk import Level, Outcome, Risk
from opswarm.guard.targets import Target

NOON = datetime.fromisoformat("2026-03-04T12:00:00+00:00").timestamp()
RUN, ASK, REFUSE = Outcome.ALLOW, Outcome.NEEDS_APPROVAL, Outcome.DENY


def policy(**parts: Any) -> Policy:
    return Policy.model_validate(parts)


def call(declared: Risk | None, tool: str = "restart", *touches: Any) -> Call:
    return Call(tool, {}, declared, touches)


def agent(*names: str) -> Principal:
    """The first acts for the second, and so on; the last works by itself."""
    chain = [f"agent:{name}" for name in names]
    return Principal(kind=Kind.AGENT, subject=chain[-1], actors=tuple(chain[:-1]))


def person(*roles: Role, actors: tuple[str, ...] = ()) -> Principal:
    return Principal(kind=Kind.PERSON, subject="person:ann", roles=frozenset(roles), actors=actors)


OPERATOR = person(Role.OPERATOR)
LEVELS = policy(
    autonomy={
        "agents": {"o": "observe", "s": "suggest", "f": "safe", "full": "full"},
        "full_tools": ["named"],
    }
)


def outcome(found: Policy, asked: Call, principal: Principal | None, now: float = NOON) -> tuple[Outcome, str]:
    decision = decide(found, asked, principal, now)
    assert decision.reason.endswith(".") and decision.rule
    return decision.outcome, decision.rule


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("o", (RUN, REFUSE, REFUSE, REFUSE)),
        ("s", (RUN, ASK, ASK, REFUSE)),
        ("unheard-of", (RUN, ASK, ASK, REFUSE)),
        ("f", (RUN, RUN, ASK, REFUSE)),
        ("full", (RUN, RUN, ASK, REFUSE)),
    ],
)
def test_the_table_is_followed(name: str, row: tuple[Outcome, ...]) -> None:
    assert tuple(outcome(LEVELS, call(risk), agent(name))[0] for risk in Risk) == row


def test_full_runs_what_is_risky_where_the_policy_names_the_tool_and_nobody_else_does() -> None:
    assert outcome(LEVELS, call(Risk.RISKY, "named"), agent("full")) == (RUN, "autonomy.full_tools")
    assert outcome(LEVELS, call(Risk.FORBIDDEN, "named"), agent("full"))[0] is REFUSE
    for name in ("s", "f"):
        assert outcome(LEVELS, call(Risk.RISKY, "named"), agent(name))[0] is ASK
    for near in ("name", "named2", "Named", "*"):
        assert outcome(LEVELS, call(Risk.RISKY, near), agent("full"))[0] is ASK


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.ADMIN])
def test_a_person_who_acts_directly_counts_as_safe(role: Role) -> None:
    row = tuple(outcome(LEVELS, call(risk, "named"), person(role))[0] for risk in Risk)
    assert row == (RUN, RUN, ASK, REFUSE)


def test_a_viewer_only_reads_whoever_acts_for_them() -> None:
    for actors in ((), ("agent:full",), ("agent:f", "service:openwebui")):
        row = tuple(outcome(LEVELS, call(risk, "named"), person(Role.VIEWER, actors=actors))[0] for risk in Risk)
        assert row == (RUN, REFUSE, REFUSE, REFUSE)
    assert outcome(LEVELS, call(Risk.SAFE), person(Role.VIEWER, Role.OPERATOR))[0] is RUN


def test_a_person_without_a_role_does_nothing() -> None:
    assert outcome(LEVELS, call(Risk.READ), person()) == (REFUSE, "role.none")
    assert outcome(LEVELS, call(Risk.READ), person(actors=("agent:full",))) == (REFUSE, "role.none")


def test_an_attack_to_pass_for_a_person_by_naming_one() -> None:
    """An agent in the chain makes it the agent's call, with every role there is."""
    admin = tuple(Role)
    assert outcome(LEVELS, call(Risk.SAFE), person(*admin, actors=("agent:s",)))[0] is ASK
    assert outcome(LEVELS, call(Risk.SAFE), person(*admin, actors=("agent:unheard-of",)))[0] is ASK
    assert outcome(LEVELS, call(Risk.SAFE), person(*admin, actors=("service:openwebui",)))[0] is ASK
    assert outcome(LEVELS, call(Risk.SAFE), person(*admin, actors=("service:full",)))[0] is ASK
    assert outcome(LEVELS, call(Risk.SAFE), person(*admin, actors=("full",)))[0] is ASK
    fake = Principal(kind=Kind.AGENT, subject="person:ann", roles=frozenset(Role))
    assert outcome(LEVELS, call(Risk.SAFE), fake)[0] is ASK
    service = Principal(kind=Kind.SERVICE, subject="service:cron", roles=frozenset(Role))
    assert outcome(LEVELS, call(Risk.SAFE), service)[0] is ASK


@given(st.lists(st.sampled_from(["o", "s", "f", "full", "other"]), min_size=1, max_size=5), st.booleans())
def test_of_several_agents_the_lowest_level_counts(names: list[str], for_a_person: bool) -> None:
    levels = {"o": 0, "s": 1, "f": 2, "full": 3, "other": 1}
    lowest = list(Level)[min(levels[n] for n in names)]
    alone = {0: "o", 1: "s", 2: "f", 3: "full"}[lowest.rank]
    chain = person(Role.OPERATOR, actors=agent(*names, "x").actors) if for_a_person else agent(*names)
    for risk in Risk:
        for tool in ("named", "other"):
            assert outcome(LEVELS, call(risk, tool), chain)[0] is outcome(LEVELS, call(risk, tool), agent(alone))[0]


def test_what_nobody_knows_is_refused() -> None:
    assert outcome(LEVELS, call(None), OPERATOR) == (REFUSE, "tool.unknown")
    assert outcome(LEVELS, call(Risk.READ), None) == (REFUSE, "principal.none")
    assert outcome(LEVELS, call(None), None) == (REFUSE, "tool.unknown")


def test_without_a_policy_agents_read_and_ask() -> None:
    assert [outcome(DEFAULT, call(r), agent("devops"))[0] for r in Risk] == [RUN, ASK, ASK, REFUSE]


@given(st.sampled_from(list(Risk)), st.sampled_from(list(Risk)[1:]), st.booleans(), st.booleans())
def test_a_policy_raises_freely_and_lowers_risky_to_safe_only(
    declared: Risk, said: Risk, pattern: bool, lowered: bool
) -> None:
    lowers = ["restart"] if lowered and said is Risk.SAFE else []
    found = policy(risk={"rest*" if pattern else "restart": said}, lowered=lowers)
    computed = assess(found, call(declared)).risk
    least = Risk.SAFE if declared is Risk.RISKY and lowers else declared
    assert computed.rank == max(least.rank, said.rank)
    if declared is Risk.FORBIDDEN:
        assert computed is Risk.FORBIDDEN
    if declared is Risk.SAFE:
        assert computed is not Risk.READ


def test_lowering_needs_the_whole_name() -> None:
    found = policy(lowered=["restart"])
    assert assess(found, call(Risk.RISKY)).risk is Risk.SAFE
    assert assess(found, call(Risk.RISKY, "restart_all")).risk is Risk.RISKY
    assert assess(found, call(Risk.FORBIDDEN)).risk is Risk.FORBIDDEN


def test_a_drain_is_always_risky() -> None:
    drain = Target("drain", "Node", "pi-1", namespaced=False)
    asked = call(Risk.RISKY, "node_drain", drain)
    assert assess(policy(lowered=["node_drain"]), asked).risk is Risk.RISKY
    assert assess(DEFAULT, call(Risk.SAFE, "x", drain)).risk is Risk.RISKY
    assert outcome(policy(lowered=["node_drain"]), asked, OPERATOR)[0] is ASK


def test_what_gets_rights_by_being_applied_is_asked_about_whatever_the_policy_says() -> None:
    root = Target("apply", "Deployment", "web", "media", privileged=True)
    plain = Target("apply", "Deployment", "web", "media")
    bold = policy(
        autonomy={"agents": {"full": "full"}, "full_tools": ["apply"]}, access={"agents": {"full": {"allow": ["*"]}}}
    )
    lowered = policy(lowered=["apply"], autonomy={"agents": {"full": "safe"}})
    assert outcome(bold, call(Risk.RISKY, "apply", plain), agent("full"))[0] is RUN
    assert outcome(bold, call(Risk.RISKY, "apply", root), agent("full"))[0] is ASK
    assert outcome(lowered, call(Risk.RISKY, "apply", plain), agent("full"))[0] is RUN
    assert outcome(lowered, call(Risk.RISKY, "apply", root), agent("full"))[0] is ASK


def test_a_hard_limit_is_not_lifted_by_level_or_role_or_policy() -> None:
    bold = policy(
        autonomy={"agents": {"full": "full"}, "full_tools": ["restart"]}, lowered=["restart"],
        access={"agents": {"full": {"allow": ["*"]}}},
    )  # fmt: skip
    coredns = Target("restart", "Deployment", "coredns", "kube-system")
    push = Commit("main", (FileChange("kubernetes/apps/a.yaml"),))
    for who in (agent("full"), person(*Role), OPERATOR):
        assert outcome(bold, call(Risk.SAFE, "restart", coredns), who) == (REFUSE, "limit.namespace.protected")
        assert outcome(bold, call(Risk.RISKY, "restart", push), who) == (REFUSE, "limit.branch.protected")


def test_of_several_touches_one_that_may_not_be_is_enough() -> None:
    good = Target("restart", "Deployment", "web", "shop")
    bad = Target("restart", "Deployment", "web", "kube-system")
    assert outcome(LEVELS, call(Risk.SAFE, "x", good), agent("f"))[0] is RUN
    assert outcome(LEVELS, call(Risk.SAFE, "x", good, bad), agent("f"))[0] is REFUSE


def test_where_rules_disagree_the_refusal_wins() -> None:
    found = policy(
        autonomy={"agents": {"devops": "full"}, "full_tools": ["restart"]},
        risk={"re*": "safe", "restart": "forbidden"},
        access={"agents": {"devops": {"allow": ["restart"], "deny": ["rest*"]}}},
    )
    assert outcome(found, call(Risk.SAFE), agent("devops")) == (REFUSE, "access.agents.devops")
    assert outcome(found, call(Risk.SAFE), agent("other")) == (REFUSE, "risk.restart")


def test_who_may_call_which_tool_holds_for_everybody_in_the_chain() -> None:
    found = policy(
        access={
            "agents": {"pr": {"allow": ["pods_*"]}, "devops": {"deny": ["pods_log"]}},
            "roles": {"viewer": {"allow": ["pods_list"]}},
        }
    )
    may = {
        ("pods_list", "pr"): True, ("pods_log", "pr"): True, ("restart", "pr"): False, ("pods_log", "devops"): False,
        ("restart", "devops"): True, ("restart", "other"): True,
    }  # fmt: skip
    for (tool, name), allowed in may.items():
        assert (outcome(found, call(Risk.READ, tool), agent(name))[0] is RUN) is allowed
    assert outcome(found, call(Risk.READ, "pods_log"), agent("pr", "devops"))[1] == "access.agents.devops"
    assert outcome(found, call(Risk.READ, "restart"), agent("devops", "pr"))[1] == "access.agents.pr"
    viewer = person(Role.VIEWER, actors=("agent:other",))
    assert outcome(found, call(Risk.READ, "pods_log"), viewer)[1] == "access.roles.viewer"
    assert outcome(found, call(Risk.READ, "pods_log"), person(*Role))[0] is RUN


BERLIN = {"days": ["fri"], "from": "22:00", "to": "07:00", "time_zone": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("at", "quiet"),
    [
        ("2026-03-06T20:59:59+00:00", False),  # Friday, 21:59:59 in Berlin
        ("2026-03-06T21:00:00+00:00", True),
        ("2026-03-07T05:59:59+00:00", True),  # Saturday morning still belongs to Friday
        ("2026-03-07T06:00:00+00:00", False),
        ("2026-03-07T22:00:00+00:00", False),  # Saturday night does not
        ("2026-03-06T05:00:00+00:00", False),  # nor Friday morning
        ("2026-07-03T20:00:00+00:00", True),  # summer time
        ("2026-07-03T19:59:00+00:00", False),
    ],
)
def test_quiet_hours_go_across_midnight_by_the_wall_clock(at: str, quiet: bool) -> None:
    found = policy(autonomy={"agents": {"f": "safe"}}, quiet_hours=[BERLIN])
    now = datetime.fromisoformat(at).timestamp()
    assert outcome(found, call(Risk.SAFE), agent("f"), now)[0] is (REFUSE if quiet else RUN)
    assert outcome(found, call(Risk.READ), agent("f"), now)[0] is RUN
    assert outcome(found, call(Risk.SAFE), OPERATOR, now)[0] is RUN


def test_quiet_hours_refuse_what_they_name_and_people_where_they_say_so() -> None:
    hours = {"from": "00:00", "to": "24:00", "refuse": ["risky"]}
    found = policy(autonomy={"agents": {"f": "safe"}}, quiet_hours=[hours])
    assert outcome(found, call(Risk.SAFE), agent("f"))[0] is RUN
    assert outcome(found, call(Risk.RISKY), agent("f")) == (REFUSE, "quiet_hours.0")
    assert outcome(found, call(Risk.RISKY), person(Role.ADMIN, actors=("agent:f",)))[0] is REFUSE
    assert outcome(found, call(Risk.RISKY), OPERATOR)[0] is ASK
    all_of_them = policy(quiet_hours=[hours | {"people": True}])
    assert outcome(all_of_them, call(Risk.RISKY), OPERATOR)[0] is REFUSE


def test_a_denial_is_raised_with_its_rule() -> None:
    with pytest.raises(PermissionDenied) as refused:
        decide(DEFAULT, call(None), OPERATOR, NOON).raise_for_denial()
    assert refused.value.rule == "tool.unknown"
    Decision(ASK, "x", "x", Risk.RISKY).raise_for_denial()


def test_a_refusal_says_what_would_change_it() -> None:
    def hint(found: Policy, asked: Call, who: Principal) -> str:
        return decide(found, asked, who, NOON).hint

    assert "autonomy.agents.s in the policy to safe" in hint(LEVELS, call(Risk.SAFE), agent("s"))
    assert "Name restart in autonomy.full_tools" in hint(LEVELS, call(Risk.RISKY), agent("full"))
    assert "role operator" in hint(LEVELS, call(Risk.SAFE), person(Role.VIEWER))
    assert "always asked" in hint(LEVELS, call(Risk.RISKY), OPERATOR)
    assert hint(LEVELS, call(Risk.FORBIDDEN), OPERATOR) == "Nothing lifts this."
