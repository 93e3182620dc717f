"""The stages as PTransforms over pure functions: DecodeCdrs, ValidateCdrs, NormalizeCdrs, EnrichCdrs, EncodeCdrs."""

import os

# Beam runs several bundles at a time, so a batch is one thread's work. polars reads this when it is first imported.
os.environ.setdefault("POLARS_MAX_THREADS", "1")
