"""Reference data of enrichment: cells and subscribers, read from files, and look-ups in them.

Facts that never change while a job runs, such as networks, belong in `rules`.
"""
