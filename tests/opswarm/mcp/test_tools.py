"""What a tool says of its own risk."""

from __future__ import annotations

import pytest

from opswarm.guard.risk import Risk
from opswarm.mcp.tools import ToolOutput, ToolSpec


async def act() -> ToolOutput:
    """Act."""
    return ToolOutput("")


@pytest.mark.parametrize(
    ("spec", "risk"),
    [
        (ToolSpec(act), Risk.READ),
        (ToolSpec(act, risk=Risk.RISKY), Risk.RISKY),
        (ToolSpec(act, read_only=False), Risk.RISKY),
        (ToolSpec(act, read_only=False, risk=Risk.SAFE), Risk.SAFE),
        (ToolSpec(act, read_only=False, risk=Risk.READ), Risk.SAFE),
        (ToolSpec(act, read_only=False, risk_of=lambda a: Risk.READ), Risk.SAFE),
        (ToolSpec(act, read_only=False, risk_of=lambda a: Risk.SAFE), Risk.SAFE),
        (ToolSpec(act, read_only=False, risk=Risk.RISKY, risk_of=lambda a: Risk.SAFE), Risk.RISKY),
        (ToolSpec(act, read_only=False, risk=Risk.SAFE, risk_of=lambda a: Risk.FORBIDDEN), Risk.FORBIDDEN),
    ],
)
def test_a_tool_is_never_less_risky_than_what_it_does(spec: ToolSpec, risk: Risk) -> None:
    assert spec.declared({}) is risk


def test_a_risk_that_can_not_be_told_is_not_taken_for_none() -> None:
    with pytest.raises(KeyError):
        ToolSpec(act, read_only=False, risk=Risk.SAFE, risk_of=lambda a: a["replicas"]).declared({})
