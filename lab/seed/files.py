"""Reading the YAML that ships with the package."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def read_yaml_folder(package: str, folder: str) -> dict[str, Any]:
    """Every `*.yaml` in a package's folder, by name without suffix, sorted. Shared: leave it as it is."""
    found = sorted(
        (p for p in files(package).joinpath(folder).iterdir() if p.name.endswith(".yaml")),
        key=lambda path: path.name,
    )
    return {path.name.removesuffix(".yaml"): yaml.load(path.read_text("utf-8"), _LOADER) for path in found}
