"""The tests of the stages of a workspace, run by pytest in a process of its own."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from orion_beam.checks.results import CheckResult, CheckState
from orion_beam.telemetry.masking import mask_line
from orion_beam.workspace import Workspace

__all__ = ["run_stage_tests"]

NO_PYTEST = "not run: pytest is not installed; `pip install 'orion-beam[test]'` installs it"
_SUITE = "stages"


def run_stage_tests(workspace: Workspace) -> list[CheckResult]:
    """Run the files `test_*.py` of the workspace's stages; return a result for each test.

    Without pytest, each file has one result, which is skipped and says so.
    """
    files = sorted(workspace.stages.rglob("test_*.py"))
    if not files:
        return []
    if find_spec("pytest") is None:
        names = [str(path.relative_to(workspace.root)) for path in files]
        return [CheckResult(_SUITE, name, CheckState.SKIPPED, (NO_PYTEST,), name) for name in names]
    with tempfile.TemporaryDirectory(prefix="orion-beam-stages-") as directory:
        report = Path(directory, "report.xml")
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
                *(f"--rootdir={workspace.root}", f"--junitxml={report}", *map(str, files)),
            ],
            cwd=workspace.root,
            capture_output=True,
            text=True,
            check=False,
        )
        results = list(_results(report)) if report.exists() else []
    if not results:  # a conftest.py that exits with 0 has run none, too
        said = (ended.stderr.strip() or ended.stdout.strip()).splitlines()
        reason = mask_line(said[-1]) if said else f"exit code {ended.returncode}"
        return [CheckResult(_SUITE, "pytest", CheckState.FAILED, (reason,))]
    return results


def _results(report: Path) -> Iterator[CheckResult]:
    for case in ElementTree.parse(report).iter("testcase"):
        name = "::".join(filter(None, (case.get("classname"), case.get("name"))))
        bad = next((each for each in case if each.tag in ("failure", "error")), None)
        skipped = case.find("skipped")
        if bad is not None:
            lines = [mask_line(line) for line in (bad.text or bad.get("message") or "").splitlines() if line.strip()]
            # pytest marks what went wrong with E, and ends with the place; the rest is code around it.
            told = [line.removeprefix("E").strip() for line in lines if line.startswith("E ")]
            yield CheckResult(_SUITE, name, CheckState.FAILED, tuple([*told, lines[-1].strip()] if told else lines))
        elif skipped is not None:
            yield CheckResult(_SUITE, name, CheckState.SKIPPED, (mask_line(skipped.get("message") or "skipped"),))
        else:
            yield CheckResult(_SUITE, name, CheckState.PASSED)
