"""Checks of a workspace: lint of its files, golden cases, conformance of its countries, tests of its stages.

They need no broker. Checks of a cluster belong in `doctor`, checks of records that were processed in `proof`.
"""
