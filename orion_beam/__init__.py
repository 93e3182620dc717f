"""ORION Beam: call detail records of several countries, unified on Kafka by one Beam graph."""

__version__ = "0.1.0"
