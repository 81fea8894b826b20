"""Services, tool servers and the lab, found by name among the installed entry points."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast

from opswarm.errors import NotFound, OpswarmError

if TYPE_CHECKING:  # Kept out of the way of commands that need none of it: these cost a second to import.
    from opswarm.mcp.serving import Opener
    from opswarm.mcp.tools import ToolSpec
    from opswarm.service import Service
    from opswarm.settings import Settings

SERVICES = "opswarm.services"
TOOL_SERVERS = "opswarm.mcp_servers"
LAB = "opswarm.lab"

READ_A_CLUSTER = ("flux", "kubernetes")
"""Tool servers that are told which cluster to look at."""


def names(group: str) -> list[str]:
    return sorted(e.name for e in entry_points(group=group))


def tool_servers(settings: Settings) -> list[str]:
    """The tool servers that these settings have a use for: whose section, where it can tell, is `configured`."""
    return [n for n in names(TOOL_SERVERS) if getattr(getattr(settings, n, None), "configured", True)]


def service_factory(name: str) -> Callable[[Settings], Service]:
    """The factory of a service. Raises `NotFound` for one that is not installed."""
    return cast("Callable[[Settings], Service]", _load(SERVICES, name, "service"))


def tool_server(name: str) -> Opener:
    """The opener of a tool server. Raises `NotFound` for one that is not installed."""
    return cast("Opener", _load(TOOL_SERVERS, name, "tool server"))


def declared_tools() -> dict[str, ToolSpec]:
    """The tools of every installed tool server, by name: to be read about, not to be called.

    A server tells them by a function `declared` beside its opener; one that has none, or can't be loaded, tells none.
    """
    found: dict[str, ToolSpec] = {}
    for entry in entry_points(group=TOOL_SERVERS):
        try:
            declared = getattr(import_module(entry.module), "declared", None)
        except ImportError:
            continue
        found |= {spec.name: spec for spec in declared()} if declared is not None else {}
    return found


def lab_module() -> Any:
    """The lab's package. Raises `NotFound` when it is not installed."""
    return _load(LAB, "lab", "lab")


def _load(group: str, name: str, what: str) -> Any:
    found = next((e for e in entry_points(group=group) if e.name == name), None)
    if found is None:
        raise NotFound(f"There is no {what} '{name}'.", hint=f"Installed: {', '.join(names(group)) or 'none'}.")
    try:
        return found.load()
    except ImportError as error:
        missing = f" ({error.name} is missing)" if isinstance(error, ModuleNotFoundError) else ""
        raise OpswarmError(
            f"The {what} '{name}' can't be loaded{missing}.", hint="Install what it needs: pip install 'opswarm[all]'."
        ) from error
