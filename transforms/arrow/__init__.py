"""Compiled loops and column operations over Arrow's buffers: texts, times, patterns of digits, copies of rows.

Operations on any column belong here. Code that knows a CDR, a country or a rule does not.
"""
