"""What the source controller needs of a Git repository."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Origin(Protocol):
    """A repository that is fetched from."""

    def resolve(self, ref: str) -> str | None:
        """The commit that a branch or tag is at."""

    def files(self, ref: str, folder: str) -> Mapping[str, str]:
        """The text files below `folder` ("" for all) at a commit, by their paths."""

    def subject(self, sha: str) -> str:
        """The first line of a commit's message."""
