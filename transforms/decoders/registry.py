"""Finds the raw formats: the modules of `transforms/decoders` that hold one. There is no list of them."""

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module

from orion_beam.schemas.country import CountryProfile
from orion_beam.transforms import decoders
from orion_beam.transforms.decoders import RawFormat


@cache
def all_formats() -> Mapping[str, RawFormat]:
    """Return every raw format by its name.

    Raises:
        TypeError: a module's FORMAT is none, or is not called what its module is; names the module.
    """
    formats = {}
    for found in pkgutil.iter_modules(decoders.__path__):
        module = import_module(f"{decoders.__name__}.{found.name}")
        if not hasattr(module, "FORMAT"):
            continue
        if not isinstance(module.FORMAT, RawFormat) or module.FORMAT.name != found.name:
            raise TypeError(f"{module.__name__}.FORMAT is no RawFormat of the name {found.name!r}")
        formats[found.name] = module.FORMAT
    return formats


def check_formats(profile: CountryProfile) -> None:
    """Check that a profile names only raw formats that there are.

    Raises:
        ValueError: it does not; names the format and those there are.
    """
    for name in profile.formats:
        if name not in all_formats():
            raise ValueError(f"formats: there is no raw format {name!r}, only {', '.join(all_formats())}")


@cache
def formats_of(profile: CountryProfile) -> tuple[RawFormat, ...]:
    """Return the formats that a country sends; of two that claim a payload the first gets it.

    What shows in the first byte comes before what is told by a separator, which may stand in the other's texts; the
    country's own, in its profile's order, come before those that all send, which get what is left.
    """
    formats = all_formats()
    own = [formats[name] for name in profile.formats]
    others = [each for each in formats.values() if each.is_sent_by_all and each not in own]
    return tuple(sorted([*own, *others], key=lambda each: (not each.is_told_by_first_byte, each.is_sent_by_all)))
