"""The Kubernetes API as a pod reaches it: where it is, the CA that vouches for it, and the pod's own token."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import httpx

from opswarm.bounded import Bounded
from opswarm.errors import SettingsInvalid

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet mounts what a pod knows of itself."""

_SECONDS = 3.0


def api_url() -> str:
    """The API server's URL. Raises `SettingsInvalid` outside of a pod."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise SettingsInvalid("This process is in no pod: KUBERNETES_SERVICE_HOST is not set.")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def own_namespace() -> str:
    """The pod's namespace. Raises `SettingsInvalid` outside of a pod."""
    return read_small(ACCOUNT / "namespace")


def read_small(path: Path) -> str:
    """A mounted token or name, as it is now: the kubelet renews it in place. Raises `SettingsInvalid`."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"The file {path} can't be read.") from error
    if not text or not text.isprintable() or " " in text:
        raise SettingsInvalid(f"The file {path} does not hold a token or a name.")
    return text


def client(ca_file: Path | None, *, most: int) -> httpx.AsyncClient:
    """httpx that trusts `ca_file` (or, without one, the machine's CAs), for answers of at most `most` bytes.

    Raises `SettingsInvalid` for a CA file that can't be used.
    """
    try:
        verify = ssl.create_default_context(cafile=str(ca_file) if ca_file is not None else None)
    except (OSError, ssl.SSLError) as error:
        raise SettingsInvalid(f"The CA file {ca_file} can't be used.") from error
    transport = Bounded(most=most, verify=verify)
    return httpx.AsyncClient(timeout=httpx.Timeout(_SECONDS), transport=transport, trust_env=False)
