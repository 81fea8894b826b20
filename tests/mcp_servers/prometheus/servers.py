"""A real Prometheus and a real Alertmanager, each in a folder of its own, on loopback, for the length of the tests."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.mcp_servers.prometheus.history import open_metrics
from tests.support.hosting import free_port

NEEDED = ("prometheus", "promtool", "prometheus-alertmanager")
INSTALL = "apt-get install --no-install-recommends prometheus prometheus-alertmanager"
READY_SECONDS = 30.0


def need_them() -> None:
    """Skips where one of the programs is missing."""
    if missing := [n for n in NEEDED if shutil.which(n) is None]:
        pytest.skip(f"no {', '.join(missing)} here: {INSTALL}")


@contextmanager
def running(command: list[str], ready: str, log: Path) -> Iterator[None]:
    """A program while `ready` answers; stopped, and killed where it does not stop."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    try:
        _wait(process, ready, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _wait(process: subprocess.Popen[bytes], ready: str, log: Path) -> None:
    last = time.monotonic() + READY_SECONDS
    while time.monotonic() < last:
        if process.poll() is not None:
            break
        try:
            if httpx.get(ready, timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass  # Not listening yet.
        time.sleep(0.05)
    raise AssertionError(f"{process.args} did not start: {log.read_text(errors='replace')[-2_000:]}")


@contextmanager
def prometheus(
    home: Path, config: str = "", *, rules: str = "", filled: bool = False, prefix: str = "", port: int = 0
) -> Iterator[str]:
    """The base URL of a Prometheus, with what `history` tells if it is `filled`."""
    home.mkdir(parents=True)
    data, port = home / "data", port or free_port()
    (home / "rules.yml").write_text(rules)
    if filled:
        text = home / "history.om"
        with text.open("w") as file:
            file.writelines(open_metrics())
        make = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(text), str(data)]
        subprocess.run(make, check=True, capture_output=True, timeout=60)
    (home / "prometheus.yml").write_text(config or "{}\n")
    url = f"http://127.0.0.1:{port}{prefix}"
    command = [
        "prometheus", f"--config.file={home / 'prometheus.yml'}", f"--storage.tsdb.path={data}",
        f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=100y", "--log.level=warn",
        f"--web.external-url={url}", "--rules.alert.resend-delay=1s",
    ]  # fmt: skip
    with running(command, f"{url}/-/ready", home / "log"):
        yield url


@contextmanager
def alertmanager(home: Path) -> Iterator[str]:
    """The base URL of an Alertmanager that sends nothing anywhere."""
    home.mkdir(parents=True)
    config = "route: {receiver: nobody, group_by: [alertname]}\nreceivers: [{name: nobody}]\n"
    (home / "alertmanager.yml").write_text(config)
    port = free_port()
    command = [
        "prometheus-alertmanager", f"--config.file={home / 'alertmanager.yml'}", f"--storage.path={home / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=", "--log.level=warn",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with running(command, f"{url}/-/ready", home / "log"):
        yield url
