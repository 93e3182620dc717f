"""What surrounds schemas: whether two versions are compatible, the schema registry, pages made of the formats.

The schemas themselves are in `schemas`.
"""
