"""The hard limits: what no prompt, mode, role, approval or policy can lift.

`Limits` holds what a policy may add to them or take from what is allowed; however it is made, the hard ones are in it.
Each check gives back what it was given, unchanged, or raises `PermissionDenied` with a sentence and a `rule`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from opswarm.errors import InvalidInput
from opswarm.guard.branches import check_branch
from opswarm.guard.denials import Limit, denied
from opswarm.guard.paths import Commit, Merge, check_changes, check_path, check_root, check_symlink
from opswarm.guard.targets import Named, Target, Verb, check_target

PROTECTED_BRANCHES = frozenset({"main", "master"})
BRANCH_PREFIXES = ("fix/", "feat/", "agent/")
DEFAULT_ROOTS = ("kubernetes/apps/",)
PROTECTED_NAMESPACES = frozenset({"kube-system", "flux-system", "cert-manager"})
ROOT_OBJECTS = frozenset(
    {
        Named("Kustomization", "flux-system", "flux-system"),
        Named("GitRepository", "flux-system", "flux-system"),
        Named("OCIRepository", "flux-system", "flux-system"),
        Named("FluxInstance", "flux-system", "flux"),
    }
)
"""The root Kustomization and its source, where `flux bootstrap` and the Flux operator put them."""

MOST_ACTIONS_AN_HOUR = 60
"""Of everybody together. A policy may only say less."""

Touch = Target | Commit | Merge
"""What a call lays hands on, as the tool server that executes it worked it out."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The hard limits with what a policy adds: more that is protected, fewer branches, other roots, scale bounds.

    `roots` each end in `/`; a policy's come from its file on disk (`opswarm.guard.policy`), and `narrowed` only ever
    takes away. `most_replicas`, `fewest_replicas` and `factor` (how many times more or less at once) bound scaling.
    Raises `PermissionDenied` for a root that can't be one and `InvalidInput` for a branch prefix that is not ours.
    """

    roots: tuple[str, ...] = DEFAULT_ROOTS
    prefixes: tuple[str, ...] = BRANCH_PREFIXES
    branches: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    objects: frozenset[Named] = frozenset()
    fewest_replicas: int = 0
    most_replicas: int = 10
    factor: float = 3.0

    def __post_init__(self) -> None:
        for root in self.roots:
            check_root(root)
        if foreign := [p for p in self.prefixes if p not in BRANCH_PREFIXES]:
            raise InvalidInput(f"{foreign[0]} can't be a branch prefix.", hint=f"Only {', '.join(BRANCH_PREFIXES)}.")
        object.__setattr__(self, "branches", self.branches | PROTECTED_BRANCHES)
        object.__setattr__(self, "namespaces", self.namespaces | PROTECTED_NAMESPACES)
        object.__setattr__(self, "objects", self.objects | ROOT_OBJECTS)

    def narrowed(self, roots: tuple[str, ...]) -> Limits:
        """The same with fewer roots. Raises `PermissionDenied` for one that is not inside those there are."""
        for root in roots:
            if not any(root.startswith(wider) for wider in self.roots):
                raise denied(Limit.PATH_ROOT, f"The root {root} is not inside the allowed ones.")
        return replace(self, roots=roots)

    def path(self, path: str, links: tuple[str, ...] = ()) -> str:
        return check_path(path, self.roots, links)

    def symlink(self, path: str, target: str, links: tuple[str, ...] = ()) -> str:
        """The target of a symlink that is to be written at `path`."""
        return check_symlink(path, target, self.roots, links)

    def branch(self, name: str) -> str:
        return check_branch(name, self.prefixes, self.branches)

    def commit(self, commit: Commit) -> Commit:
        self.branch(commit.branch)
        check_changes(commit, self.roots)
        return commit

    def merge(self, merge: Merge) -> Merge:
        check_changes(merge, self.roots)
        return merge

    def target(self, target: Target) -> Target:
        check_target(target, self.namespaces, self.objects)
        if target.verb == Verb.SCALE or target.replicas is not None:
            self._scaling(target)
        return target

    def check(self, touch: Touch) -> Touch:
        """Any of the above."""
        match touch:
            case Target():
                return self.target(touch)
            case Commit():
                return self.commit(touch)
            case Merge():
                return self.merge(touch)

    def _scaling(self, target: Target) -> None:
        wanted, current = target.replicas, target.current
        if wanted is None or current is None or bool in (type(wanted), type(current)) or min(wanted, current) < 0:
            raise denied(Limit.SCALE, "A scaling says from how many replicas it goes to how many.")
        if not self.fewest_replicas <= wanted <= self.most_replicas:
            raise denied(
                Limit.SCALE,
                f"{wanted} replicas is outside of {self.fewest_replicas} to {self.most_replicas}.",
                "The policy's scale.min and scale.max say so.",
            )
        less, more = sorted((max(wanted, 1), max(current, 1)))
        if more > less * self.factor:
            raise denied(
                Limit.SCALE,
                f"From {current} to {wanted} replicas is more than {self.factor:g} times at once.",
                "The policy's scale.factor says so; go in steps.",
            )
