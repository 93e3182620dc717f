"""The measured claims of the README."""

import os

# As on the workers, see transforms/__init__.py; here before anything else imports polars.
os.environ.setdefault("POLARS_MAX_THREADS", "1")
