"""Logs and metrics: what a service tells about itself, with one run id through all of them.

The run id is the trace id of W3C trace context: it arrives in `traceparent`, or is made at the first door, and
goes out in every call to another service.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
import time
from contextvars import ContextVar
from typing import Any

from prometheus_client import Counter, Histogram

from opswarm.guard.redaction import redact
from opswarm.settings import Log

_run_id: ContextVar[str] = ContextVar("run_id", default="")
_service: ContextVar[str] = ContextVar("service", default="")
_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$")

REQUESTS = Counter("opswarm_http_requests_total", "HTTP requests served", ["service", "method", "status"])
TURNS = Counter("opswarm_turns_total", "Turns by how they ended", ["agent", "outcome"])
TURN_SECONDS = Histogram("opswarm_turn_seconds", "Wall time of a turn", ["agent"])
TOOL_CALLS = Counter("opswarm_tool_calls_total", "Tool calls served", ["server", "tool", "outcome"])
TOOL_SECONDS = Histogram("opswarm_tool_seconds", "Time of a tool call", ["server", "tool"])
MODEL_CALLS = Counter("opswarm_model_calls_total", "Model calls", ["model", "outcome"])
MODEL_FALLBACKS = Counter("opswarm_model_fallbacks_total", "Models passed over for the next", ["model", "reason"])
MODEL_TOKENS = Counter("opswarm_model_tokens_total", "Tokens used", ["model", "direction"])
DELEGATIONS = Counter("opswarm_delegations_total", "Requests passed to an agent", ["agent", "outcome"])


def run_id() -> str:
    """The run id of the request being served, or ""."""
    return _run_id.get()


def begin_run(traceparent: str | None, service: str) -> str:
    """Joins the caller's run, or starts one when `traceparent` is absent or malformed. Returns the run id."""
    found = _TRACEPARENT.match(traceparent or "")
    run = found.group(1) if found and found.group(1) != "0" * 32 else os.urandom(16).hex()
    _run_id.set(run)
    _service.set(service)
    return run


def traceparent() -> str:
    """The header that carries the current run id on, or "" outside of a run."""
    run = _run_id.get()
    return f"00-{run}-{os.urandom(8).hex()}-01" if run else ""


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if _service.get():
            line["service"] = _service.get()
        if _run_id.get():
            line["run"] = _run_id.get()
        if record.exc_info:
            line["error"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        who = f" {_service.get()}" if _service.get() else ""
        run = f" [{_run_id.get()[:8]}]" if _run_id.get() else ""
        text = f"{clock} {record.levelname.lower():7}{who}{run} {record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return redact(text)


def _not_a_cancellation(record: logging.LogRecord) -> bool:
    """uvicorn logs a request that was cancelled, because its client left or the service stops, as a crash."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def configure_logging(settings: Log) -> None:
    """Sends every logger's records to stderr in the chosen format. Safe to call again."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if settings.format == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "mcp"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True
    for noisy in ("uvicorn.access", "httpx", "httpx2", "httpcore", "mcp", "a2a", "LiteLLM"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(_not_a_cancellation)
    # Its loaders log, unredacted, what then reaches the person as our own error.
    logging.getLogger("kubernetes").setLevel(logging.CRITICAL)
