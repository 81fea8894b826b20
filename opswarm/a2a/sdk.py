"""The server side of the A2A SDK, imported without the database that it would take along.

The SDK loads SQLAlchemy where it is installed, for a task store that is not used here: 21 MB, and a third of a
second of each start.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """While it lasts, importing `name` fails as if it were not installed, unless it was imported before."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


with _hidden("sqlalchemy"):
    from a2a.server.context import ServerCallContext
    from a2a.server.request_handlers.request_handler import RequestHandler, validate_request_params
    from a2a.server.request_handlers.response_helpers import build_error_response
    from a2a.server.routes import create_agent_card_routes
    from a2a.server.routes.common import DefaultServerCallContextBuilder
    from a2a.server.routes.jsonrpc_dispatcher import JsonRpcDispatcher

__all__ = [
    "DefaultServerCallContextBuilder",
    "JsonRpcDispatcher",
    "RequestHandler",
    "ServerCallContext",
    "build_error_response",
    "create_agent_card_routes",
    "validate_request_params",
]
