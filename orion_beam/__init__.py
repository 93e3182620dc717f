"""ORION Beam: one Beam pipeline that unifies the call detail records (CDRs) of several countries on Kafka."""

from orion_beam.schemas import VERSION

__all__ = ["__version__"]

__version__ = VERSION
"""Version of this package, after Semantic Versioning."""
