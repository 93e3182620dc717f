"""Stages that ORION Beam offers by name, listed in SHIPPED_STAGES: useful as they are, and examples."""

SHIPPED_STAGES = {
    "drop_rows": f"{__name__}.drop_rows:DropRows",
    "pseudonymise": f"{__name__}.pseudonymise:Pseudonymise",
}
"""Code of each stage, as `module:class`, by name."""
