"""Capture of live records as golden cases; pseudonyms take the place of the subscribers' numbers.

It only writes files.
"""
