"""LiteLLM called directly: `python -m bench.peers.litellm CALLS MODEL API_BASE` prints what a call took, as JSON.

It is set up as the gateway sets it up, so that what is left between the two is the gateway's own.
"""

from __future__ import annotations

import json
import sys
import time
from statistics import median

from bench.scripted import TOKENS
from opswarm.settings import Models
from services.model_gateway.provider import Provider

_WARM = 20


async def main(calls: int, model: str, base: str) -> dict[str, float]:
    """Milliseconds of a streamed completion (the median), and of this process's CPU."""
    await Provider(Models).prepare()
    import litellm

    walls: list[float] = []
    cpu = 0.0
    for n in range(_WARM + calls):
        if n == _WARM:
            cpu = time.process_time()
        began = time.perf_counter()
        chunks = await litellm.acompletion(
            model=model,
            messages=[{"role": "user", "content": "look"}],
            api_base=base,
            api_key="bench-has-no-key",
            stream=True,
            stream_options={"include_usage": True},
        )
        said = [c.choices[0].delta.content async for c in chunks if c.choices]
        walls.append((time.perf_counter() - began) * 1000)
        if sum(1 for s in said if s) != TOKENS:
            raise SystemExit(f"{model} did not say {TOKENS} tokens")
    return {"p50": median(walls[_WARM:]), "cpu": (time.process_time() - cpu) * 1000 / calls}


if __name__ == "__main__":
    import uvloop

    print(json.dumps(uvloop.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))))
