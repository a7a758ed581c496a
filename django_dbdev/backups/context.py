"""Where the project stands in git, read from git's own files: no program is run."""

from __future__ import annotations

from pathlib import Path


def git_state(root: Path) -> tuple[str, str]:
    """The branch and the commit of the work tree around ``root``.

    The branch is empty for a detached HEAD; both are where there is no repository, or the
    commit is kept in a way that is not read here (reftable).
    """
    for folder in (root, *root.parents):
        if (folder / ".git").exists():
            try:
                return _state(_git_directory(folder / ".git"))
            except (OSError, ValueError):
                return "", ""
    return "", ""


def _git_directory(dot_git: Path) -> Path:
    """Of a linked work tree or submodule ``.git`` is a file that names the directory."""
    if dot_git.is_dir():
        return dot_git
    key, _, path = dot_git.read_text("utf-8").strip().partition(": ")
    if key != "gitdir":
        raise ValueError(f"{dot_git} names no directory")
    return dot_git.parent / path


def _state(directory: Path) -> tuple[str, str]:
    head = (directory / "HEAD").read_text("utf-8").strip()
    if not head.startswith("ref: "):
        return "", head
    reference = head.removeprefix("ref: ")
    if reference == "refs/heads/.invalid":
        # Source: git's documentation, "reftable".
        return "", ""
    branch = reference.removeprefix("refs/heads/")
    common = directory
    if (directory / "commondir").is_file():
        common = directory / (directory / "commondir").read_text("utf-8").strip()
    for place in (directory, common):
        if (place / reference).is_file():
            return branch, (place / reference).read_text("utf-8").strip()
    return branch, _packed(common / "packed-refs", reference)


def _packed(file: Path, reference: str) -> str:
    if not file.is_file():
        return ""
    for line in file.read_text("utf-8").splitlines():
        commit, _, name = line.partition(" ")
        if name == reference:
            return commit
    return ""
