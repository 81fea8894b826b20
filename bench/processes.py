"""Child processes of the bench: started, pinned to a core, watched, and stopped."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

_READY_SECONDS = 60.0


@dataclass(frozen=True)
class Child:
    """One process: what it has used so far, as the kernel counts it."""

    pid: int
    url: str
    ready_seconds: float

    def cpu_ms(self) -> float:
        """CPU time of all its threads, in milliseconds (`/proc/PID/task/*/schedstat`, in nanoseconds there)."""
        total = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total / 1e6

    def rss_mb(self) -> float:
        """Resident memory, in MB."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def pin(core: int) -> None:
    """Keeps this process, and what it starts, on one core, where there are several."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[core % len(cores)]})


@contextmanager
def child(
    arguments: Sequence[str], port: int, *, core: int, environment: dict[str, str] | None = None, quiet: bool = False
) -> Iterator[Child]:
    """Runs `python ARGUMENTS` on a core until the block ends; it is ready when its `/healthz` answers."""
    url = f"http://127.0.0.1:{port}"
    cores = list(range(os.cpu_count() or 1))
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, **(environment or {})},
        stderr=subprocess.DEVNULL if quiet else None,
        preexec_fn=lambda: os.sched_setaffinity(0, {cores[core % len(cores)]}),
    )
    try:
        while True:
            if process.poll() is not None:
                raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}")
            try:
                if httpx.get(f"{url}/healthz", timeout=1, trust_env=False).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            if time.perf_counter() - began > _READY_SECONDS:
                raise SystemExit(f"{' '.join(arguments)} was not ready within {_READY_SECONDS:.0f} s")
            time.sleep(0.01)
        yield Child(process.pid, url, time.perf_counter() - began)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
