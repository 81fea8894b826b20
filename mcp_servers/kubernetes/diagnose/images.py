"""Images that can't be pulled, and which of the many reasons it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from mcp_servers.cluster.finding import Evidence, Finding, one_line
from mcp_servers.kubernetes.diagnose.events import Event
from mcp_servers.kubernetes.diagnose.fields import Obj
from mcp_servers.kubernetes.diagnose.impact import at_root
from mcp_servers.kubernetes.diagnose.podstate import Container, containers, is_finished, is_terminating
from mcp_servers.kubernetes.diagnose.snapshot import Snapshot

WAITING = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
        "ErrRegistryUnavailable",
    }
)


@dataclass(frozen=True, slots=True)
class PullProblem:
    """One reason a pull fails: its known wordings, and what to do about it. `{image}` is filled in."""

    cause: str
    pattern: re.Pattern[str]
    title: str
    next_step: str


def _problem(cause: str, pattern: str, title: str, next_step: str) -> PullProblem:
    return PullProblem(cause, re.compile(pattern, re.IGNORECASE), title, next_step)


PROBLEMS = (
    _problem(
        "InvalidImageName",
        r"couldn'?t parse image (name|reference)|invalid reference format|InvalidImageName",
        "the image name {image} is not a valid reference",
        "Correct the image name in the workload (registry/repository:tag, lower case, no spaces).",
    ),
    _problem(
        "ImageNeverPull",
        r"ErrImageNeverPull|pull policy of Never",
        "the image {image} is not on the node, and the pull policy Never forbids fetching it",
        "Set imagePullPolicy to IfNotPresent, or load the image onto the node.",
    ),
    _problem(
        "PullQPSExceeded",
        r"pull QPS exceeded",
        "the kubelet's own pull limit delays {image}",
        "Wait: the kubelet tries again. Raise registryPullQPS if it happens often.",
    ),
    _problem(
        "ImageRateLimited",
        r"toomanyrequests|too many requests|pull rate limit|rate limit(ed| exceeded)|429 too many",
        "the registry's rate limit refuses pulls of {image}",
        "Wait for the limit to reset, pull with an account (imagePullSecrets), or use a mirror.",
    ),
    _problem(
        "ImagePlatformMismatch",
        r"no match for platform|no matching manifest for|does not match the specified platform"
        r"|no image found in (image index|manifest list)|image operating system .* cannot be used",
        "the image {image} has no build for the node's platform",
        "Use an image built for the node's architecture, or select nodes by their kubernetes.io/arch label.",
    ),
    _problem(
        "NodeDiskFull",
        r"no space left on device|disk quota exceeded",
        "the node has no disk space left for {image}",
        "Free disk space on the node.",
    ),
    _problem(
        "ImageRegistryTLS",
        r"x509:|certificate signed by unknown authority|certificate has expired|certificate is not valid"
        r"|gave HTTP response to HTTPS client|tls: (failed to verify|bad certificate|handshake failure)"
        r"|tls: unknown",
        "the TLS connection to the registry of {image} is not trusted",
        "Make the nodes trust the registry's certificate, renew it, or set it up as a plain HTTP registry.",
    ),
    _problem(
        "ImageRegistryDNS",
        r"no such host|lookup \S+: try again|server misbehaving|temporary failure in name resolution|NXDOMAIN"
        r"|lookup \S+( on \S+)?: (i/o timeout|read udp)",
        "the name of the registry of {image} can't be resolved",
        "Check the registry's host name in the image, and DNS on the node.",
    ),
    _problem(
        "ImageRegistryUnreachable",
        r"i/o timeout|connection refused|connection reset|no route to host|network is unreachable"
        r"|Client\.Timeout|TLS handshake timeout|context deadline exceeded|DeadlineExceeded|request canceled"
        r"|unexpected EOF|: EOF|50[0-4] (internal|bad|service|gateway)|RegistryUnavailable"
        r"|pinging container registry",
        "the registry of {image} can't be reached from the node",
        "Check that the registry is up, and the node's route, firewall and proxy to it.",
    ),
    _problem(
        "ImagePullDenied",
        r"repository does not exist or may require|does not exist or no pull access",
        "the repository of {image} does not exist or needs credentials (the registry does not say which)",
        "Check the spelling of the repository; if it is private, add imagePullSecrets with access to it.",
    ),
    _problem(
        "ImagePullUnauthorized",
        r"unauthorized|authentication required|authorization failed|failed to authorize"
        r"|no basic auth credentials|forbidden|\bdenied\b|insufficient_scope|invalid username",
        "the registry refuses the pull of {image} without valid credentials",
        "Add or renew imagePullSecrets for the registry on the pod or its service account.",
    ),
    _problem(
        "ImageNotFound",
        r"manifest unknown|name unknown|not found|NotFound|repository .*does not exist|unknown manifest|404",
        "the image {image} does not exist in the registry (wrong name or tag)",
        "Correct the image name or tag in the workload, or go back to the one that worked.",
    ),
    _problem(
        "ImageSignatureInvalid",
        r"SignatureValidationFailed|signature",
        "the signature of {image} is not accepted by the node's policy",
        "Use a signed image, or correct the node's signature policy.",
    ),
)
_UNKNOWN = _problem(
    "ImagePullFailed",
    "",
    "the image {image} can't be pulled",
    "Read the kubelet's message and check the image.",
)


def classify(message: str, image: str) -> PullProblem | None:
    """What a runtime's message about `image` says. None when it gives no reason.

    The image's own name is taken out first: it may hold words such as "denied".
    """
    rest = message
    for name in sorted({image, image.partition("@")[0], _untagged(image)}, key=len, reverse=True):
        rest = rest.replace(name, "…") if name else rest
    return next((problem for problem in PROBLEMS if problem.pattern.search(rest)), None)


def _untagged(image: str) -> str:
    """`host/repo/app:tag` without its tag; runtimes quote the repository alone too."""
    head, slash, last = image.rpartition("/")
    repository = head + slash + last.partition("@")[0].partition(":")[0]
    return repository if slash else ""


def image_pulls(snapshot: Snapshot, now: datetime) -> list[Finding]:
    """Containers that wait for an image."""
    return [
        _finding(snapshot, pod, container, now)
        for pod in snapshot.kind("Pod")
        if not is_finished(pod) and not is_terminating(pod)
        for container in containers(pod)
        if container.waiting in WAITING
    ]


def _told(pod_events: list[Event], container: Container) -> list[Event]:
    """What the kubelet said about this container's image, the newest first."""
    return [
        event
        for event in pod_events
        if event.reason in ("Failed", "InspectFailed", "ErrImageNeverPull")
        and (event.container == container.name if event.container else container.image in event.message)
        and not event.message.startswith("Error: ")
    ]


def _finding(snapshot: Snapshot, pod: Obj, container: Container, now: datetime) -> Finding:
    image = one_line(container.image, 200)
    message = container.waiting_message
    told = _told(snapshot.events(pod), container)
    evidence = [Evidence(f"{container.label} waiting", f"{container.waiting}: {message}".rstrip(": "))]
    problem = classify(f"{container.waiting}: {message}", container.image)
    explaining = next((e for e in told if classify(e.message, container.image)), told[0] if told else None)
    if problem is None and explaining is not None:
        problem = classify(explaining.message, container.image)
    explained = classify(message, container.image) is not None
    if explaining is not None and not explained:
        evidence.append(explaining.evidence(now))
    evidence += [event.evidence(now) for event in snapshot.events(pod, "FailedToRetrieveImagePullSecret")[:1]]
    problem = problem or _UNKNOWN
    title = f"{container.label}: {problem.title.format(image=image)}"
    symptom = problem is _UNKNOWN
    return at_root(snapshot, pod, problem.cause, title, evidence, problem.next_step, symptom=symptom)
