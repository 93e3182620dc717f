"""The stages as PTransforms over pure functions: DecodeCdrs, ValidateCdrs, NormalizeCdrs, EnrichCdrs, EncodeCdrs."""

import os

# One thread per batch is enough because Beam runs several bundles at a time. polars reads this at its first import.
os.environ.setdefault("POLARS_MAX_THREADS", "1")
