"""`docs/settings.md`, written from the typed settings so that it can't fall behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from opswarm.settings import PORTS, Section, Settings

_HEAD = """\
# Settings

<!-- Written by `make docs` from opswarm/settings.py. Change it there. -->

Later ones win: the defaults below, the file `opswarm.yaml` in the working folder (or the one that `OPSWARM_CONFIG`
names), environment variables. A variable is the setting's name in capitals behind `OPSWARM_`, with `__` between
levels: `models.standard` is `OPSWARM_MODELS__STANDARD`. Lists and mappings are JSON in a variable, YAML in the file.

```yaml
# opswarm.yaml
models:
  standard: ollama_chat/qwen3:8b
  ollama_api_base: http://127.0.0.1:11434
turn:
  max_seconds: 120
```

An unknown name in the file is an error that names it. These variables are read besides: `OPSWARM_TOKEN` (the
caller's token, for the command line), the usual `ANTHROPIC_API_KEY`, `OPENAI_API_KEY` and `OLLAMA_API_BASE`,
`KUBECONFIG` (by a tool server of a cluster that is told of no other), and `XDG_STATE_HOME`.
"""


def fields() -> Iterator[tuple[str, str, FieldInfo]]:
    """Every setting: its section ("" at the top), its name there, and what is known of it."""
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            for path, told in _within(kind, ""):
                yield name, path, told
        else:
            yield "", name, field


def _within(kind: type[Section], path: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in kind.model_fields.items():
        yield f"{path}{name}", field
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, Section):
                step = "" if inner is field.annotation else ".<name>"
                yield from _within(inner, f"{path}{name}{step}.")


def page() -> str:
    """The page as Markdown."""
    lines = [_HEAD]
    section: str | None = None
    for where, name, field in fields():
        if where != section:
            section = where
            lines += ["", f"## {where or 'General'}", "", "| setting | default | what it is |", "|---|---|---|"]
        full = f"{where}.{name}" if where else name
        lines.append(f"| `{full}` | {_default(field)} | {field.description} |")
    ports = ", ".join(f"{name} {port}" for name, port in PORTS.items())
    lines += ["", "Ports of services that run alone: " + ports + ".", ""]
    return "\n".join(lines)


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if field.default_factory is not None or value is PydanticUndefined:
        return "see right" if field.default_factory is None else "`$XDG_STATE_HOME/opswarm`"
    if value is None or value in ("", {}, ()):
        return "none"
    if isinstance(value, BaseModel):
        given = {name: said for name, said in value.model_dump().items() if said not in (None, "", (), {})}
        return f"`{given}`" if given else "none"
    if isinstance(value, SecretStr | Path):
        return "none"
    return f"`{list(value) if isinstance(value, tuple) else value}`"


if __name__ == "__main__":
    print(page(), end="")
