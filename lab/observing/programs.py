"""Running Prometheus and Alertmanager on loopback, each in a folder of its own, until they are stopped."""

from __future__ import annotations

import asyncio
import ctypes
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

_PROMETHEUS = ("prometheus",)
_ALERTMANAGER = ("prometheus-alertmanager", "alertmanager")
"""As Debian calls it, and as everybody else does."""

_READY_SECONDS = 20.0
_STOP_SECONDS = 3.0
_EVERY = "5s"
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h


def missing() -> list[str]:
    """Those that are not installed."""
    return [names[0] for names in (_PROMETHEUS, _ALERTMANAGER) if not _installed(names)]


def _installed(names: Sequence[str]) -> str:
    """The first of these names that a program has here, "" where none has."""
    return next((name for name in names if shutil.which(name)), "")


@dataclass
class Program:
    """One of them, at `url`. `stop` ends it."""

    url: str
    _process: asyncio.subprocess.Process

    async def stop(self) -> None:
        if self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def alertmanager(folder: Path) -> Program:
    """An Alertmanager that tells nobody. Raises `OSError` when it does not start."""
    folder.mkdir()
    route = {"receiver": "nobody", "group_by": ["alertname", "namespace"], "group_wait": "1s"}
    config = folder / "alertmanager.yml"
    config.write_text(yaml.safe_dump({"route": route, "receivers": [{"name": "nobody"}]}))
    port = _free_port()
    return await _started(
        [
            _installed(_ALERTMANAGER), f"--config.file={config}", f"--storage.path={folder / 'data'}",
            "--cluster.listen-address=", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
        ],
        f"http://127.0.0.1:{port}",
        folder,
    )  # fmt: skip


async def prometheus(folder: Path, exporter: str, alerts: str, rules: str) -> Program:
    """A Prometheus that scrapes `exporter` (host:port) and tells `alerts`. Raises `OSError` when it does not start."""
    folder.mkdir()
    (folder / "rules.yml").write_text(rules)
    config = {
        "global": {"scrape_interval": _EVERY, "evaluation_interval": _EVERY},
        "rule_files": [str(folder / "rules.yml")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alerts]}]}]},
        "scrape_configs": [{"job_name": "lab", "honor_labels": True, "static_configs": [{"targets": [exporter]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = _free_port()
    return await _started(
        [
            _installed(_PROMETHEUS), f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
            "--storage.tsdb.retention.time=1d", "--log.level=error",
            "--rules.alert.resend-delay=5s",
        ],
        f"http://127.0.0.1:{port}",
        folder,
    )  # fmt: skip


async def _started(command: Sequence[str], url: str, folder: Path) -> Program:
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL,
            preexec_fn=_dies_with_us if sys.platform == "linux" else None,
        )  # fmt: skip
    program = Program(url, process)
    try:  # Whoever starts it may be broken off as well: it must not stay behind then.
        async with asyncio.timeout(_READY_SECONDS), httpx.AsyncClient(timeout=2, trust_env=False) as http:
            while process.returncode is None and not await _is_ready(http, url):
                await asyncio.sleep(0.05)
        if process.returncode is None:
            return program
    except TimeoutError:
        pass
    except BaseException:
        await program.stop()
        raise
    await program.stop()
    told = (folder / "log").read_text(errors="replace").strip().splitlines()[-1:]
    raise OSError(f"{command[0]} did not start in the lab: {' '.join(told)[:300]}")


async def _is_ready(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(f"{url}/-/ready")).status_code == 200
    except httpx.TransportError:
        return False  # Not listening yet.


def _dies_with_us() -> None:
    """In the child: it is killed when this process ends, however that comes about."""
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
