"""What a model reads, word for word, and what it costs. With GOLDEN=write the texts are written anew, to be read before
they are kept."""

from __future__ import annotations

import os
from pathlib import Path


def same(file: Path, said: str, most_tokens: int) -> None:
    """`said` is what the file has, and takes at most so many tokens, at four characters each."""
    if os.environ.get("GOLDEN") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{said}\n")
    assert said == file.read_text().removesuffix("\n")
    assert len(said) / 4 <= most_tokens, len(said) / 4
