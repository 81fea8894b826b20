"""`python -m bench [--turns N] [--peers ours,floor,bare] [--long]`."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench import diagnose, gateway, processes, prompts, size, swarm, tables, turn


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description="What a turn costs, against the SDKs and the bare wire.")
    parser.add_argument("--turns", type=int, default=200, help="turns at 1 concurrent; twice that at 16, thrice at 64")
    parser.add_argument("--peers", default="bare,floor,ours", help="with `swarm`: also behind gateway and orchestrator")
    parser.add_argument("--long", action="store_true", help="also how an agent grows over 2,000 turns")
    given = parser.parse_args()
    processes.pin(turn.HARNESS_CORE)
    print("One turn: model, tool, model, 32 streamed tokens. The peer has its own core; ratios are to the SDK floor.")
    with tempfile.TemporaryDirectory() as folder, turn.world(Path(folder)) as at:
        names = given.peers.split(",")
        rows = [turn.measured(name, at, given.turns) for name in names if name != "swarm"]
        if "swarm" in names or given.peers == parser.get_default("peers"):
            rows += swarm.rows(at, given.turns)
        print(f"\n{tables.turns(rows)}\n\n{tables.sizes(size.sizes(at.folder))}")
        print(f"\n{diagnose.lines(diagnose.large(at.folder))}\n\n{prompts.lines(prompts.prompts(at.folder))}")
        print(f"\n{gateway.report(at, given.turns)}")
        if given.long:
            before, after = size.growth(at, 2_000)
            print(f"\nAn agent after 100 turns: {before:.1f} MB; after 2,000 more: {after:.1f} MB.")


if __name__ == "__main__":
    main()
