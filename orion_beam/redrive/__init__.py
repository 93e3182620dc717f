"""The way back of dead letters to the raw topics: which, with what patch, each at most once.

Looking at dead letters without sending any is in `dlq`.
"""
