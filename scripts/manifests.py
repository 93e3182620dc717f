"""What Kustomize makes of each overlay of runners/deploy/kubernetes, kept under tests/testdata for the tests.

The alert rules are left out: `make docs` makes them, and no overlay changes them.

`python -m scripts.manifests` renders the overlays again. It needs `kustomize`, `kubectl` or `go`; the tests need none
of them: the first line of a rendered file holds a digest of the files that it was made from.
"""

import hashlib
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
KUBERNETES = ROOT / "runners" / "deploy" / "kubernetes"
OVERLAYS = ("dev", "production")
_RENDERED = ROOT / "tests" / "testdata" / "deploy"
_ALERTS = KUBERNETES / "base" / "alerts.yaml"
_KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v5@v5.5.0"


def rendered_file(overlay: str) -> Path:
    """Return the path of what was made of an overlay."""
    return _RENDERED / f"{overlay}.yaml"


def header() -> str:
    """Return the first line of a rendered file, with the digest of all files that the overlays are made of."""
    digest = hashlib.sha256()
    for path in sorted(path for path in KUBERNETES.rglob("*") if path.is_file() and path != _ALERTS):
        digest.update(b"\0" + path.relative_to(KUBERNETES).as_posix().encode() + b"\0" + path.read_bytes())
    return f"# Made by `make manifests` from files with the digest {digest.hexdigest()[:16]}\n"


def kustomize(*, may_fetch: bool = False) -> list[str] | None:
    """Return the beginning of a command that renders; None if this machine has none.

    Args:
        may_fetch: Whether Go may fetch Kustomize.
    """
    if path := shutil.which("kustomize"):
        return [path, "build"]
    if path := shutil.which("kubectl"):
        return [path, "kustomize"]
    if may_fetch and (path := shutil.which("go")):
        return [path, "run", _KUSTOMIZE, "build"]
    return None


def render(overlay: str, command: list[str]) -> str:
    """Return what Kustomize makes of an overlay."""
    done = subprocess.run(
        [*command, str(KUBERNETES / "overlays" / overlay)], capture_output=True, text=True, check=True
    )
    parts = done.stdout.split("---\n")
    return header() + "---\n".join(part for part in parts if "\nkind: PrometheusRule\n" not in part)


def main() -> None:
    """Render all overlays."""
    command = kustomize(may_fetch=True)
    if command is None:
        raise SystemExit("`make manifests` needs kustomize, kubectl or go on PATH")
    for overlay in OVERLAYS:
        rendered_file(overlay).write_text(render(overlay, command), encoding="utf-8")


if __name__ == "__main__":
    main()
