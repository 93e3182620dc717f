"""Compiled loops and column operations over Arrow's buffers: texts, times, patterns of digits, copies of rows.

What is true of any column belongs here; what knows a CDR, a country or a rule does not.
"""
