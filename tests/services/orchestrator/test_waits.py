"""What the agents of one task wait for, put together."""

from __future__ import annotations

from opswarm.agent.events import ApprovalNeeded, ApprovalRequest
from services.orchestrator.parking import Waits
from services.orchestrator.resuming import Child, WaitingTask

ONE, TWO = ApprovalRequest(id="one"), ApprovalRequest(id="two")
FIRST, SECOND = (
    Child(agent="devops", task_id="t1", approvals=("one",)),
    Child(agent="devops", task_id="t2", approvals=("one", "two"), number=3),
)
BEFORE = WaitingTask(proof="p", children=(FIRST, SECOND), requests=(ONE, TWO))


def test_what_could_not_go_on_waits_as_it_did() -> None:
    waits = Waits(BEFORE)
    waits.again(FIRST)
    waits.again(SECOND)
    assert waits.unchanged and waits.children["t2"].number == 3 and list(waits.requests) == ["one", "two"]


def test_one_that_has_ended_is_a_change_though_another_waits_for_the_same() -> None:
    waits = Waits(BEFORE)
    waits.again(SECOND)
    assert not waits.unchanged and list(waits.requests) == ["one", "two"]


def test_one_that_was_told_to_go_on_and_waits_for_the_same_gets_another_message_next_time() -> None:
    waits = Waits(BEFORE)
    waits.again(FIRST)
    waits.add("devops", "t2", ApprovalNeeded(approvals=(ONE, TWO)), SECOND.number + 1)
    assert waits.unchanged and waits.children["t2"].number == 4


def test_what_waits_for_the_first_time_is_a_change() -> None:
    waits = Waits()
    waits.add("devops", "t1", ApprovalNeeded(approvals=(ONE,)), 0)
    assert not waits.unchanged
