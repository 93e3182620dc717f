"""Tools around schemas: compatibility of two versions, and the schema registry.

The schemas themselves are in `schemas`.
"""
