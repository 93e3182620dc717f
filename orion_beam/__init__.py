"""ORION Beam: call detail records of several countries, unified on Kafka by one Beam graph."""

from schemas.version import VERSION

__version__ = VERSION
