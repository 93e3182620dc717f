"""Late imports, which wait until a command runs: Beam takes seconds to import, and help and usage errors need none.

    with late_imports():
        from orion_beam.proof.audit import audit

While the command line looks for a command (`deferring`), such a block imports nothing: its names are placeholders. Then
`load_late_imports` replaces them by the real objects before the command runs. Before that, only annotations may
use the names, so whatever an option's help shows, such as its default, must be imported above the block, from a module
that is quick to import. Outside of the command line the block imports at once.

From Python 3.15 on, `lazy from … import …` (PEP 810) does this.
"""

import builtins
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

_is_deferring = False
_COMMANDS = "orion_beam.cli."


class _Late:
    """Placeholder for a module, or for a name in one."""

    def __init__(self, module: str, name: str | None = None) -> None:
        self._module, self._name = module, name

    def load(self) -> Any:
        if self._name is None:
            return import_module(self._module)
        # Do as `from … import …` does: the name may be that of a submodule.
        return getattr(__import__(self._module, fromlist=[self._name]), self._name)

    def __getattr__(self, name: str) -> "_Late":
        if name.startswith("__"):
            raise AttributeError(name)
        return _Late(self._module, name)

    # Annotations need this: `Judge | None`.
    def __or__(self, _: object) -> "_Late":
        return self

    __ror__ = __or__


@contextmanager
def deferring() -> Iterator[None]:
    """Defer late imports in modules that are first imported within this block."""
    global _is_deferring
    _is_deferring = True
    try:
        yield
    finally:
        _is_deferring = False


@contextmanager
def late_imports() -> Iterator[None]:
    """Defer the imports of this block while `deferring` is active; otherwise import at once."""
    if not _is_deferring:
        yield
        return
    import_now = builtins.__import__
    this_thread = threading.get_ident()

    def import_late(
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - it has the signature of __import__
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> Any:
        # Another thread may import meanwhile, and needs what it imports.
        if threading.get_ident() != this_thread:
            return import_now(name, globals, locals, fromlist, level)
        return _Late(name)

    builtins.__import__ = import_late  # type: ignore[assignment]  # it returns what stands for a module
    try:
        yield
    finally:
        builtins.__import__ = import_now


def load_late_imports() -> None:
    """Import what was deferred, in all modules of the command line."""
    # A copy, since a thread may import meanwhile.
    for name, module in sys.modules.copy().items():
        if name.startswith(_COMMANDS):
            names = vars(module)
            names |= {late: value.load() for late, value in names.items() if isinstance(value, _Late)}
