"""ORION Beam: call detail records of several countries, unified on Kafka by one Beam graph."""

from orion_beam.schemas.version import VERSION

__version__ = VERSION
