"""The version of ORION Beam. Every dead letter holds it."""

VERSION = "0.1.0"
