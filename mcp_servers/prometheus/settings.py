"""Which APIs the tool server asks, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from opswarm.errors import SettingsInvalid
from opswarm.settings import Api, Prometheus


@dataclass(frozen=True, slots=True)
class Backends:
    """What is there to be asked; None for what is not. `rules` answers for rules and alerts. `total` is seconds."""

    metrics: Api | None = None
    rules: Api | None = None
    alertmanager: Api | None = None
    total: float = 30.0


def backends(chosen: Prometheus) -> Backends:
    """The APIs that the settings name. Raises `SettingsInvalid` when they name none."""
    if not chosen.configured:
        raise SettingsInvalid(
            "Say where Prometheus is: prometheus.url, or OPSWARM_PROMETHEUS__URL.",
            hint="prometheus.alertmanager.url names an Alertmanager.",
        )
    metrics = chosen if chosen.url else None
    elsewhere = chosen.model_copy(update={"url": chosen.rules_url}) if chosen.rules_url else None
    alertmanager = chosen.alertmanager if chosen.alertmanager.url else None
    return Backends(metrics, elsewhere or metrics, alertmanager, chosen.timeout_seconds)
