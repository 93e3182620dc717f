"""ORION Beam: one Beam pipeline that unifies the call detail records (CDRs) of several countries on Kafka."""

from orion_beam.schemas.version import VERSION

__version__ = VERSION
