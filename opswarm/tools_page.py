"""`docs/tools.md`, written from the tools themselves so that it can't fall behind."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from opswarm.cli.registry import TOOL_SERVERS
from opswarm.guard.risk import Risk
from opswarm.mcp.factory import ToolServer, local_person
from opswarm.mcp.tools import CORE, ToolSpec

_HEAD = """\
# Tools

<!-- Written by `make docs` from the tools of mcp_servers/. Change them there. -->

Every tool of every tool server, as a client lists it. Tools that read are always there; those with a risk are actions,
and are there where `actions.servers` names the server ([settings](settings.md)); each also takes `dry_run`. What a risk
means is in [the policy](policy.md). Toolsets can be switched off and on ([the desktop](../README.md#in-a-desktop-app)).
"""


_PAGES = {"kubernetes": "actions.md"}
"""Where more is told of a server, if not on a page of its name."""


def servers() -> Iterator[tuple[str, str, list[ToolSpec]]]:
    """Each tool server by name, with what its instructions say and all its tools."""
    for entry in sorted(entry_points(group=TOOL_SERVERS), key=lambda one: one.name):
        tools = import_module(entry.module.removesuffix("app") + "tools")
        yield entry.name, tools.INSTRUCTIONS, list(import_module(entry.module).declared())


def page() -> str:
    """The page as Markdown."""
    lines = [_HEAD]
    for name, told, specs in servers():
        more = _PAGES.get(name, f"{name}.md")
        lines += [f"## {name}\n", f"`opswarm mcp {name} --stdio`; more in [{more}]({more}). It tells a model:\n"]
        lines += [f"> {told}\n"]
        lines += ["| tool | toolset | risk | | takes |", "|---|---|---|---|---|"]
        taken = _schemas(specs)
        lines += [_row(spec, taken[spec.name]) for spec in specs] + [""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _schemas(specs: Sequence[ToolSpec]) -> dict[str, dict[str, Any]]:
    """The input schema of each tool by its name; of an action without `dry_run`, which all of them have."""
    plain = [ToolSpec(spec.function, delegates=True) for spec in specs]
    server = ToolServer("page", plain, instructions="", stdio_caller=local_person())
    return {tool.name: tool.parameters for tool in server.sdk._tool_manager.list_tools()}


def _row(spec: ToolSpec, schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    takes = [_argument(name, told, name in required) for name, told in schema.get("properties", {}).items()]
    text = " ".join(inspect.cleandoc(spec.function.__doc__ or "").split())
    cells = (f"`{spec.name}`", "" if spec.toolset == CORE else spec.toolset, _risk(spec), text, "; ".join(takes))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _argument(name: str, schema: dict[str, object], required: bool) -> str:
    told = str(schema.get("description", "")).rstrip(".")
    default = "" if required or schema.get("default") in ("", None, [], {}) else f" [{schema['default']}]"
    return f"`{name}`{'' if required else '?'}{default}" + (f" {told}" if told else "")


def _risk(spec: ToolSpec) -> str:
    if spec.read_only:
        return ""
    least = spec.risk or (Risk.SAFE if spec.risk_of else Risk.RISKY)
    return str(least) + (" or more" if spec.risk_of else "")


if __name__ == "__main__":
    print(page(), end="")
