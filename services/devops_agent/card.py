"""What the devops agent says it can do."""

from __future__ import annotations

from a2a.types import AgentCard

from opswarm.a2a.cards import Skill, agent_card

NAME = "devops"

SKILLS = (
    Skill(
        "diagnose",
        "Diagnose",
        "Find what is broken in the cluster, a namespace or one workload, with evidence and the next step.",
        ("kubernetes", "cluster", "health", "broken", "crash", "crashloop", "failing", "pending", "oom", "why",
         "pod", "node", "deployment", "namespace", "image", "restart", "down", "wrong", "flux", "gitops",
         "kustomization", "helmrelease", "gitrepository", "sync", "reconcile", "stuck", "ready"),
        ("what is broken in my cluster?", "why is sonarr crash looping?", "is the monitoring namespace healthy?",
         "why is the HelmRelease jellyfin not ready?"),
    ),
    Skill(
        "inspect",
        "Inspect",
        "List and read objects of any kind, logs, events, usage, rollouts and ownership.",
        ("kubernetes", "list", "get", "logs", "log", "events", "yaml", "describe", "pods", "nodes", "namespaces",
         "services", "ingress", "pvc", "memory", "cpu", "usage", "rollout", "revision", "owner", "deployments",
         "jobs", "cronjobs", "secrets", "configmaps", "workload", "replicas", "flux", "kustomizations", "helmreleases",
         "commit", "applied", "drift"),
        ("list the pods in media", "show the last 50 log lines of prowlarr", "which pods use most memory?"),
    ),
    Skill(
        "act",
        "Act",
        "Restart, scale, roll back, cordon, drain, end a pod, run a CronJob, reconcile or suspend what Flux applies; "
        "people are asked where policy says so.",
        ("kubernetes", "restart", "scale", "rollback", "undo", "cordon", "drain", "evict", "delete", "trigger",
         "cronjob", "label", "annotate", "replicas", "pod", "deployment", "node", "flux", "reconcile",
         "suspend", "resume"),
        ("restart jellyfin", "scale radarr to zero", "drain worker-2", "run the backup now"),
    ),
)  # fmt: skip


def card(url: str) -> AgentCard:
    """The card of the devops agent served at `url`."""
    about = "answers questions about the Kubernetes cluster from live state, and acts on it where it may."
    return agent_card(NAME, "Devops agent", about, url, SKILLS)
