"""Checks over many records that a user switches on: partial records, duplicates, gaps in sequences.

What one row alone can show is a rule, and belongs into `rules`.
"""
