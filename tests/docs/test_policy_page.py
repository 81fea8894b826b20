"""docs/policy.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from opswarm.guard.decision import by_table
from opswarm.guard.denials import Limit
from opswarm.guard.policy_file import parse
from opswarm.guard.risk import Level, Outcome, Risk

PAGE = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
WORDS = {Outcome.ALLOW: "run", Outcome.NEEDS_APPROVAL: "ask", Outcome.DENY: "refuse"}


def test_the_example_is_a_policy_and_shows_every_field() -> None:
    found = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert found
    policy = parse(found[1].encode(), Path("policy.yaml")).policy
    assert policy.limits.path("infrastructure/monitoring/grafana.yaml")
    assert set(type(policy).model_fields) == policy.model_fields_set
    for part in (policy.autonomy, policy.protected, policy.git, policy.scale, policy.rates, policy.access):
        assert set(type(part).model_fields) == part.model_fields_set
    assert set(type(policy.quiet_hours[0]).model_fields) == policy.quiet_hours[0].model_fields_set


def test_the_table_is_that_of_the_code() -> None:
    for level in Level:
        row = re.search(rf"^\| {level} \| (.*) \|$", PAGE, re.MULTILINE)
        assert row
        said = ["ask" if cell.endswith("else ask") else cell for cell in row[1].split(" | ")]
        assert said == [WORDS[by_table(level, risk, named=False)] for risk in Risk]


def test_every_hard_limit_is_on_the_page() -> None:
    for limit in Limit:
        area = limit.rsplit(".", 1)[0]
        assert limit in PAGE or f"`{area}.*`" in PAGE or f"`.{limit.rsplit('.', 1)[1]}`" in PAGE, limit
