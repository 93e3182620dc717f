"""Every record that ORION Beam reads, passes on or writes, declared once as a pydantic model."""
