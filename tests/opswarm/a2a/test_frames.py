"""The two spellings of a frame are the same frame."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from a2a.types import Message, Part, Role, StreamResponse, Task, TaskState, TaskStatus
from a2a.utils.proto_utils import to_stream_response
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from opswarm.a2a.frames import Frame, StateFrame, TaskFrame, TextFrame, end_of, event_frame, parked_frame, stamp
from opswarm.agent.events import (
    ApprovalNeeded,
    ApprovalRequest,
    Delegated,
    Event,
    Failed,
    Finished,
    ToolFinished,
    ToolStarted,
    Usage,
)

IDS = ("t-1", "c-1")
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def same(frame: Frame) -> None:
    written = frame.json()
    assert written.isascii() and "\n" not in written and "\r" not in written
    assert json.loads(written) == MessageToDict(to_stream_response(frame.proto()))
    ParseDict(json.loads(written), StreamResponse())


@given(TEXT, st.booleans())
def test_text_is_spelt_alike(text: str, first: bool) -> None:
    same(TextFrame(*IDS, text, first=first))


@given(TEXT, st.dictionaries(TEXT, JSON, max_size=4))
def test_what_happens_on_the_way_is_spelt_alike_whatever_a_model_puts_into_arguments(
    tool: str, arguments: dict[str, Any]
) -> None:
    same(event_frame(*IDS, ToolStarted(call_id="1", tool=tool, arguments=arguments)))


@pytest.mark.parametrize("number", [math.nan, math.inf, 10**400, -(2**70), 1.5, 2**53])
def test_a_number_that_json_or_a_double_does_not_have_breaks_nothing(number: float) -> None:
    same(event_frame(*IDS, ToolStarted(call_id="1", tool="t", arguments={"n": [number, {"half": "\ud800"}]})))


@pytest.mark.parametrize(
    "event",
    [
        ToolFinished(call_id="1", tool="look", ok=True, summary="seen", seconds=0.125),
        ToolFinished(call_id="1", tool="look", ok=False),
        Delegated(agent="devops", because="it was named"),
        Usage(model="m", input_tokens=10, output_tokens=2**40, cached_tokens=3),
        ApprovalNeeded(approvals=(ApprovalRequest(id="a", tool="scale", preview="Scale x to 0."),)),
    ],
)
def test_every_other_event_is_spelt_alike(event: Event) -> None:
    same(event_frame(*IDS, event))


@given(TEXT)
def test_every_end_is_spelt_alike(text: str) -> None:
    same(end_of(*IDS, Finished(notice=text)))
    same(end_of(*IDS, Failed(code="internal", message=text)))
    same(parked_frame(*IDS, ApprovalNeeded(approvals=(ApprovalRequest(id="a", tool="scale", preview=text),))))
    same(StateFrame(*IDS, TaskState.TASK_STATE_WORKING))
    same(StateFrame(*IDS, TaskState.TASK_STATE_CANCELED, text=text))


@given(st.lists(TEXT.filter(bool), min_size=1, max_size=3), st.booleans(), st.booleans())
def test_a_task_is_spelt_alike_fresh_or_not(texts: list[str], answered: bool, marked: bool) -> None:
    said = Message(message_id="m", role=Role.ROLE_USER, parts=[Part(text=t) for t in texts], task_id="t-1")
    if marked:
        said.metadata.update({"a": 1})
    task = Task(id="t-1", context_id="c-1", status=TaskStatus(state=TaskState.TASK_STATE_SUBMITTED), history=[said])
    if answered:
        task.status.state = TaskState.TASK_STATE_COMPLETED
        task.artifacts.add(artifact_id="answer", parts=[Part(text="x")])
    same(TaskFrame(task))


@given(st.integers(0, 4 * 10**18), st.sampled_from([1, 1_000, 1_000_000, 1_000_000_000]))
def test_a_time_is_spelt_as_protobuf_does(nanoseconds: int, unit: int) -> None:
    moment = Timestamp()
    moment.FromNanoseconds(nanoseconds // unit * unit)
    assert stamp(nanoseconds // unit * unit) == moment.ToJsonString()
