"""Every record that ORION Beam reads, passes on or writes, declared once as a pydantic model."""

VERSION = "0.1.0"
"""The version of ORION Beam. Every dead letter holds it."""
