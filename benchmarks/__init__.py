"""Measurements behind the figures in README.md and docs/reference/figures.md."""

import os

# Workers set the same, see transforms/__init__.py. It must happen before the first import of polars.
os.environ.setdefault("POLARS_MAX_THREADS", "1")
