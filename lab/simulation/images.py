"""Images as containerd sees them: digests, sizes, and the wording of pulls that fail."""

from __future__ import annotations

import hashlib

from lab.simulation.world import ImageFault


def digest(image: str) -> str:
    return "sha256:" + hashlib.sha256(image.encode()).hexdigest()


def repository(image: str) -> str:
    """The full reference without tag: `docker.io/library/redis` for `redis:7`."""
    name = image.split("@")[0]
    if ":" in name.rsplit("/", 1)[-1]:
        name = name.rsplit(":", 1)[0]
    first = name.split("/", 1)[0]
    if "/" not in name:
        return f"docker.io/library/{name}"
    return name if "." in first or ":" in first else f"docker.io/{name}"


def reference(image: str) -> str:
    """The reference containerd resolves, tag included."""
    tag = image.rsplit("/", 1)[-1].partition(":")[2] or "latest"
    return f"{repository(image)}:{tag}"


def image_id(image: str) -> str:
    return f"{repository(image)}@{digest(image)}"


def size(image: str) -> int:
    """Bytes: made up, but the same every time."""
    return 20_000_000 + int(digest(image)[7:14], 16) % 180_000_000


def pulled_message(image: str) -> str:
    seconds = f"{1 + size(image) % 1300 / 1000:.3f}s"
    return (
        f'Successfully pulled image "{image}" in {seconds} ({seconds} including waiting). '
        f"Image size: {size(image)} bytes."
    )


def pull_error(fault: ImageFault, image: str) -> str:
    """What the kubelet reports, after `Failed to pull image "x": `."""
    full = reference(image)
    host, path = repository(image).split("/", 1)
    failed = f'failed to pull and unpack image "{full}": failed to resolve reference "{full}"'
    if fault == "not-found":
        return f"rpc error: code = NotFound desc = {failed}: {full}: not found"
    if fault == "unauthorized":
        scope = f"repository%3A{path.replace('/', '%2F')}%3Apull"
        return (
            f"{failed}: failed to authorize: failed to fetch anonymous token: unexpected status from GET "
            f"request to https://{host}/token?scope={scope}&service={host}: 401 Unauthorized"
        )
    tag = full.rsplit(":", 1)[1]
    manifest = f"https://registry-1.docker.io/v2/{path}/manifests/{tag}"
    return (
        f'failed to pull and unpack image "{full}": failed to copy: httpReadSeeker: failed open: '
        f"unexpected status from GET request to {manifest}: 429 Too Many Requests\ntoomanyrequests: You have "
        "reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"
    )
