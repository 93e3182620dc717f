"""The version of ORION Beam, which every dead letter carries."""

VERSION = "0.1.0"
