"""Stages that ORION Beam offers by name: useful as they are, and examples."""
