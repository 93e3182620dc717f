"""Checks before a commit (pre-commit) and `make lint` are the same ones, on the same files."""

import re
import subprocess
import sys

import yaml

from tests.test_docs import ROOT


def commands(lines: list[str]) -> set[str]:
    """Return each command's program and first word, without the switch between checking and mending."""
    found = [line.replace("$(BIN)/", ".venv/bin/").replace("@$(MAKE) --no-print-directory", "make") for line in lines]
    return {re.sub(r"( --(fix|check)| \.$)", "", line).strip() for line in found}


def test_pre_commit_runs_what_make_lint_runs() -> None:
    (recipe,) = re.findall(r"^lint: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    hooks = [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]]
    assert commands([line.removeprefix("\t") for line in recipe.splitlines()]) == commands(hooks)


def test_ruff_checks_every_python_file() -> None:
    """pre-commit hands ruff what has a shebang of Python, too."""
    checked = subprocess.check_output([sys.executable, "-m", "ruff", "check", "--show-files", "."], cwd=ROOT, text=True)
    tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    python = {
        str(path)
        for path in (ROOT / name for name in tracked)
        if path.suffix == ".py" or (path.is_file() and not path.suffix and b"python" in path.read_bytes()[:40])
    }
    assert python <= set(checked.splitlines())
