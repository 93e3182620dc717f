"""Synthetic CDRs: realistic traffic in each country's own formats, with faults, deterministic by seed.

`generate_batches` yields columns, with the code that each faulty record must be rejected with. The subscribers and
cells are those of the reference data that the package ships (`orion_beam/reference`).
"""

from orion_beam.generator.batches import CdrGenerator, GeneratedBatch, generate_batches
from orion_beam.generator.population import cells_of, subscribers_of

__all__ = ["CdrGenerator", "GeneratedBatch", "cells_of", "generate_batches", "subscribers_of"]
