"""Which code a benchmark measured."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any


def commit() -> dict[str, Any]:
    """The commit that was measured, and the files of the working tree that differ from it."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    changed = git("diff", "--name-only", "HEAD", "--", "../devices", "../hwsim", "../models").splitlines()
    return {"commit": git("rev-parse", "HEAD"), "changed_since": changed}
