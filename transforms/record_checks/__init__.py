"""Optional checks of CDRs beyond validation: partial records, duplicates, gaps in sequences.

Validation rules, which check one row at a time, belong in `rules`.
"""
