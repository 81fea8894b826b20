"""`python -m bench [--turns N] [--peers ours,floor,bare]`."""

from __future__ import annotations

import argparse

from bench import processes, turn


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description="What a turn costs, against the SDKs and the bare wire.")
    parser.add_argument("--turns", type=int, default=200, help="turns at 1 concurrent; twice that at 16, thrice at 64")
    parser.add_argument("--peers", default="bare,floor,ours")
    given = parser.parse_args()
    processes.pin(0)
    print("One turn: model, tool, model, 32 streamed tokens. The peer has its own core; ratios are to the SDK floor.\n")
    print(turn.table(turn.measure(tuple(given.peers.split(",")), given.turns)))


if __name__ == "__main__":
    main()
