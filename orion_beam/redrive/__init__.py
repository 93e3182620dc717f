"""Redrive of dead letters to their raw topics: which letters, with which patch, each at most once.

Code that only reads dead letters belongs in `dlq`.
"""
