# ruff: noqa: E501 -- messages are quoted as components write them
from __future__ import annotations

import pytest

from mcp_servers.kubernetes.diagnose.images import classify
from tests.mcp_servers.kubernetes.diagnose.build import causes, event, only, run, stack, told, waiting

IMAGE = "docker.io/library/sonarr:1"
CONTAINERD = f'failed to pull and unpack image "{IMAGE}": failed to resolve reference "{IMAGE}": '


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (f'rpc error: code = NotFound desc = {CONTAINERD}{IMAGE}: not found', "ImageNotFound"),
        (f"rpc error: code = Unknown desc = Error response from daemon: manifest for {IMAGE} not found: manifest unknown: "
         "manifest unknown", "ImageNotFound"),
        ("rpc error: code = Unknown desc = reading manifest 1 in docker.io/library/sonarr: manifest unknown", "ImageNotFound"),
        (f"rpc error: code = Unknown desc = {CONTAINERD}unexpected status from HEAD request to "
         "https://quay.io/v2/x/manifests/1: 401 UNAUTHORIZED", "ImagePullUnauthorized"),
        (f"{CONTAINERD}failed to authorize: failed to fetch anonymous token: unexpected status from GET request to "
         "https://ghcr.io/token?scope=repository%3Ax%3Apull&service=ghcr.io: 403 Forbidden", "ImagePullUnauthorized"),
        ("rpc error: code = Unknown desc = Error response from daemon: Head \"https://123.dkr.ecr.eu-west-1.amazonaws.com/"
         "v2/x/manifests/1\": no basic auth credentials", "ImagePullUnauthorized"),
        ("rpc error: code = Unknown desc = unable to retrieve auth token: invalid username/password: unauthorized: "
         "authentication required", "ImagePullUnauthorized"),
        (f"rpc error: code = Unknown desc = {CONTAINERD}pull access denied, repository does not exist or may require "
         "authorization: server message: insufficient_scope: authorization failed", "ImagePullDenied"),
        ("rpc error: code = Unknown desc = Error response from daemon: pull access denied for sonarr, repository does not "
         "exist or may require 'docker login': denied: requested access to the resource is denied", "ImagePullDenied"),
        ("failed to copy: httpReadSeeker: failed open: unexpected status code https://registry-1.docker.io/v2/library/x/"
         "manifests/sha256:ab: 429 Too Many Requests - Server message: toomanyrequests: You have reached your pull rate "
         "limit.", "ImageRateLimited"),
        (f'{CONTAINERD}failed to do request: Head "https://reg.home.example/v2/x/manifests/1": dial tcp: lookup '
         "reg.home.example on 10.43.0.10:53: no such host", "ImageRegistryDNS"),
        (f'{CONTAINERD}failed to do request: Head "https://reg.home.example/v2/": dial tcp: lookup reg.home.example: '
         "i/o timeout", "ImageRegistryDNS"),
        (f'{CONTAINERD}failed to do request: Head "https://reg.home.example/v2/x/manifests/1": dial tcp 192.0.2.7:443: '
         "i/o timeout", "ImageRegistryUnreachable"),
        (f'{CONTAINERD}failed to do request: Head "https://192.0.2.7:5000/v2/": dial tcp 192.0.2.7:5000: connect: '
         "connection refused", "ImageRegistryUnreachable"),
        ("Get \"https://registry-1.docker.io/v2/\": net/http: TLS handshake timeout", "ImageRegistryUnreachable"),
        ("rpc error: code = DeadlineExceeded desc = context deadline exceeded", "ImageRegistryUnreachable"),
        (f'{CONTAINERD}failed to do request: Head "https://reg.home.example/v2/": tls: failed to verify certificate: '
         "x509: certificate signed by unknown authority", "ImageRegistryTLS"),
        ('Head "https://192.0.2.7:5000/v2/x": http: server gave HTTP response to HTTPS client', "ImageRegistryTLS"),
        (f"rpc error: code = NotFound desc = failed to pull and unpack image \"{IMAGE}\": no match for platform in "
         "manifest: not found", "ImagePlatformMismatch"),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", "ImagePlatformMismatch"),
        ("choosing an image from manifest list docker://x: no image found in manifest list for architecture \"arm64\", "
         "variant \"v8\", OS \"linux\"", "ImagePlatformMismatch"),
        ("failed to extract layer: write /var/lib/containerd/x: no space left on device", "NodeDiskFull"),
        ("pull QPS exceeded", "PullQPSExceeded"),
    ],
)  # fmt: skip
def test_the_reasons_of_a_failed_pull_are_told_apart(message: str, cause: str) -> None:
    objects = stack(
        waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}": ErrImagePull: {message}'),
        phase="Pending",
    )
    assert causes(run(objects)) == [f"Deployment media/sonarr: {cause}"]


def test_the_reason_comes_from_the_event_where_the_status_has_none() -> None:
    objects = stack(waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}"'), phase="Pending")
    failed = event(
        objects[2],
        "Failed",
        f'Failed to pull image "{IMAGE}": {CONTAINERD}{IMAGE}: not found',
        container="sonarr",
        count=4,
    )
    other = event(objects[2], "Failed", "Error: ErrImagePull", container="sonarr", seconds=10)
    report = run(objects, failed, other)
    assert only(report).cause == "ImageNotFound"
    assert "event Failed 3m ago (x4): Failed to pull image" in told(report)


def test_without_a_reason_nothing_is_guessed() -> None:
    objects = stack(waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}"'), phase="Pending")
    assert only(run(objects)).cause == "ImagePullFailed"


def test_words_in_the_name_of_an_image_are_no_reason() -> None:
    image = "ghcr.io/denied/x509-forbidden:429"
    assert classify(f'Back-off pulling image "{image}"', image) is None
    found = classify(f'failed to resolve reference "{image}": {image}: not found', image)
    assert found is not None and found.cause == "ImageNotFound"


@pytest.mark.parametrize(
    ("reason", "message", "cause"),
    [
        (
            "InvalidImageName",
            'Failed to apply default image tag "Sonarr:": couldn\'t parse image name "Sonarr:": invalid reference format',
            "InvalidImageName",
        ),
        (
            "ErrImageNeverPull",
            f'Container image "{IMAGE}" is not present with pull policy of Never',
            "ImageNeverPull",
        ),
    ],
)
def test_names_and_policies_that_can_not_work(reason: str, message: str, cause: str) -> None:
    assert only(run(stack(waiting(reason, message), phase="Pending"))).cause == cause


def test_a_missing_pull_secret_is_evidence() -> None:
    objects = stack(waiting("ErrImagePull", f"{CONTAINERD}401 Unauthorized"), phase="Pending")
    secret = event(
        objects[2],
        "FailedToRetrieveImagePullSecret",
        "Unable to retrieve some image pull secrets (regcred); attempting to pull the image may not succeed.",
    )
    assert "image pull secrets (regcred)" in told(run(objects, secret))
