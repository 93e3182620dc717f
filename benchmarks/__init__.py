"""The measured claims of README.md and docs/reference/figures.md."""

import os

# As on the workers, see transforms/__init__.py; here before anything else imports polars.
os.environ.setdefault("POLARS_MAX_THREADS", "1")
