"""The pipe of Open WebUI and the whole swarm."""

from __future__ import annotations

from tests.e2e.conftest import Machine
from tests.e2e.test_swarm import url
from tests.integrations.openwebui.program import Program, content


async def test_a_chat_in_open_webui_gets_the_evidence(swarm: Machine) -> None:
    token = swarm.run("token", "--front", "openwebui").stdout.strip()
    program = Program(url(swarm), token)
    chunks = await program.chunks("why is sonarr crash looping?", agent="orchestrator", user="e2e")
    assert "OOMKilled" in content(chunks) and 'name="diagnose"' in content(chunks)
    assert program.statuses[:2] == ["devops is asked (it is the only agent)", "diagnose …"]
    assert chunks[-1]["usage"]["total_tokens"] > 0
    more = [{"role": r, "content": c} for r, c in (("user", "why is sonarr broken?"), ("assistant", content(chunks)))]
    followed = await program.chunks(messages=[*more, {"role": "user", "content": "and its logs?"}], user="e2e")
    assert "pods_log(pod=sonarr)" in content(followed)
