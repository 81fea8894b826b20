"""A kubeconfig for the lab."""

from __future__ import annotations

import base64

import yaml


def kubeconfig(server: str, ca_pem: bytes, token: str, context: str = "opswarm-lab") -> str:
    """The YAML text, with one cluster, user and context, all named `context`."""
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(ca_pem).decode()}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": context, "cluster": cluster}],
            "users": [{"name": context, "user": {"token": token}}],
            "contexts": [
                {"name": context, "context": {"cluster": context, "user": context, "namespace": "default"}}
            ],
            "current-context": context,
        },
        sort_keys=False,
    )
