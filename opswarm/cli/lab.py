"""Starting the lab for the command line: what goes wrong ends as one sentence."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

from opswarm.cli import registry
from opswarm.errors import SettingsInvalid, Unavailable
from opswarm.settings import Settings


async def start(settings: Settings, scenarios: Sequence[str], port: int) -> Any:
    """A lab that is being served on loopback; `stop()` ends it.

    Raises `SettingsInvalid` for an unknown scenario or a port that can't be used.
    """
    serve = registry.lab_module()
    try:
        return await serve(scenarios, port=port, tick_seconds=settings.lab.tick_seconds, beside=settings.lab.beside)
    except ValueError as error:
        raise SettingsInvalid(str(error)) from error
    except OSError as error:
        if error.errno is None:
            raise Unavailable("The lab did not start.", hint="Its log says why.") from error
        why = "is in use" if error.errno == errno.EADDRINUSE else "can't be used"
        raise SettingsInvalid(
            f"Port {port}, which the lab is to listen on, {why}.",
            hint="Choose another: --port of `opswarm lab up`, or OPSWARM_LAB__PORT.",
        ) from error
