"""Fuzz the parsers: `make fuzz [TARGET=letters] [SECONDS=60]`. Without a target, all of them, one after the other.

atheris changes inputs, and keeps those that reach new lines of Python or have a new feature (`targets`). Each input
is a batch: its records, and variants of it. The compiled loops check the bounds of their arrays.

What is new is kept in out/fuzz/TARGET, and is where the next run begins. `--keep` copies a small choice of it that has
all features to tests/fuzz/corpus, which the unit tests read. What breaks a target is in out/fuzz/failures, as one
record where one is enough.

Exit code 0: nothing broke. 1: something did. 2: atheris is missing.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OUT = ROOT / "out" / "fuzz"
KEPT = Path(__file__).parent / "corpus"
FAILURES = OUT / "failures"

_MOST_BYTES = 4_096
_MARKS = 4_096
"""Features are counted by their hash. With more of them, two would often be taken for one."""
_KEPT_FILES = 40
_KEPT_BYTES = 2_048


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", help="target; all if not given")
    parser.add_argument("--seconds", type=int, default=60, help="how long, for each target")
    parser.add_argument("--keep", action="store_true", help="choose the corpus of the unit tests from what was found")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if importlib.util.find_spec("atheris") is None and not given.keep:
        print("make fuzz: there is no atheris for this machine, only for Linux on x86-64", file=sys.stderr)
        raise SystemExit(2)
    if given.child:
        _fuzz(given.target, given.seconds)
    names = [given.target] if given.target else _names()
    if given.keep:
        for name in names:
            _keep(name)
        return
    broken = [name for name in names if not _run(name, given.seconds)]
    if broken:
        print(f"broken: {', '.join(broken)}; see {FAILURES.relative_to(ROOT)}")
        raise SystemExit(1)


def _names() -> list[str]:
    from tests.fuzz.targets import TARGETS

    return list(TARGETS)


def _run(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own, which may even be killed by what it finds; say what came of it."""
    # Numba does not see that cached machine code was compiled without the check of bounds.
    checked = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(OUT / "numba")}
    OUT.mkdir(parents=True, exist_ok=True)
    count = _count_file(name)
    count.unlink(missing_ok=True)
    with (OUT / f"{name}.log").open("w") as log:
        child = [sys.executable, "-m", "tests.fuzz.run", "--child", "--target", name, "--seconds", str(seconds)]
        code = subprocess.run(child, cwd=ROOT, env=os.environ | checked, stdout=log, stderr=log).returncode
    calls, inputs, features, took = count.read_text().split() if count.exists() else ("0", "0", "0", "0")
    verdict = "nothing broke" if code == 0 else f"BROKEN, exit code {code}: out/fuzz/{name}.log"
    print(f"{name:16} {int(inputs):>12,} inputs in {int(calls):,} batches, {features} features, {took} s: {verdict}")
    return code == 0


def _count_file(name: str) -> Path:
    return OUT / f"{name}.count"


def _fuzz(name: str, seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["orion_beam"], exclude=_compiled_modules()):
        from tests.fuzz.targets import CUT, TARGETS, Features
        from tests.fuzz.variants import bytes_changed, lines_changed
    target = TARGETS[name]
    marks = _marks(atheris.instrument_func)
    seen: Features = set()
    calls, inputs, began, told = 0, 0, time.monotonic(), 0.0
    written = OUT / name
    written.mkdir(exist_ok=True)
    for seed in target.seeds():
        (written / hashlib.sha1(seed).hexdigest()).write_bytes(seed)

    def one(data: bytes) -> None:
        nonlocal calls, inputs, told
        varied = lines_changed(data) if target.is_file else bytes_changed(data, CUT).split(CUT)
        records = [*data.split(CUT), *varied]
        try:
            found = target.check(records)
        except BaseException:
            _save_failure(name, records, target.check)
            raise
        for feature in found:
            marks[hash(feature) % _MARKS]()
        seen.update(found)
        calls += 1
        inputs += len(records)
        if time.monotonic() - told > 1:
            told = time.monotonic()
            _count_file(name).write_text(f"{calls} {inputs} {len(seen)} {told - began:.0f}")

    options = [
        f"-max_total_time={seconds}",
        f"-max_len={_MOST_BYTES}",
        "-rss_limit_mb=4096",
        "-timeout=300",
        f"-artifact_prefix={OUT}/crash-{name}-",
        str(written),
        *([str(KEPT / name)] if (KEPT / name).exists() else []),
    ]
    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


def _compiled_modules() -> list[str]:
    """Return the modules with functions that numba compiles: it cannot compile what atheris has changed."""
    sources = (path for room in ("orion_beam", "transforms", "schemas") for path in (ROOT / room).rglob("*.py"))
    found = [path.relative_to(ROOT) for path in sources if "@compiled" in path.read_text(encoding="utf-8")]
    names = [".".join(path.with_suffix("").parts) for path in found]
    return [name if name.startswith("orion_beam") else f"orion_beam.{name}" for name in names] + [
        "orion_beam.transforms.arrow.compiled"
    ]


def _marks(instrumented: Any) -> list[Any]:
    """Return functions that do nothing but be counted: to the fuzzer, one that is called first is new code."""
    found = []
    for number in range(_MARKS):
        scope: dict[str, Any] = {}
        exec(compile(f"def mark():\n  return {number}\n", f"<feature {number}>", "exec"), scope)
        found.append(instrumented(scope["mark"]))
    return found


def _save_failure(name: str, records: list[bytes], check: Any) -> None:
    """Save the first record that fails alone, else all of them."""
    for record in records:
        try:
            check([record])
        except Exception:
            records = [record]
            break
    from tests.fuzz.targets import CUT

    data = CUT.join(records)
    FAILURES.mkdir(parents=True, exist_ok=True)
    (FAILURES / f"{name}-{hashlib.sha1(data).hexdigest()[:12]}").write_bytes(data)


def _keep(name: str) -> None:
    """Choose few and short inputs that have features which the seeds lack."""
    from tests.fuzz.targets import TARGETS, records_in

    target = TARGETS[name]
    seen: set[Hashable] = set().union(*(target.check(records_in(seed)) for seed in target.seeds()))
    base = len(seen)
    chosen = []
    for data in sorted(_found(name), key=lambda each: (len(each), each)):
        features = target.check(records_in(data))
        if len(data) <= _KEPT_BYTES and len(chosen) < _KEPT_FILES and not features <= seen:
            seen |= features
            chosen.append(data)
    folder = KEPT / name
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for data in chosen:
        (folder / hashlib.sha1(data).hexdigest()[:12]).write_bytes(data)
    print(f"{name:16} {len(chosen)} files, {sum(map(len, chosen)):,} bytes, {len(seen) - base} new features")


def _found(name: str) -> Iterator[bytes]:
    for folder in (OUT / name, KEPT / name):
        with contextlib.suppress(FileNotFoundError):
            yield from (path.read_bytes() for path in folder.iterdir())


if __name__ == "__main__":
    main()
