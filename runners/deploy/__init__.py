"""Files to deploy jobs: images and compose, Kubernetes, systemd units. `orion-beam deploy` writes a copy."""

from pathlib import Path

DEPLOYMENT = Path(__file__).parent
"""Directory of the files."""
