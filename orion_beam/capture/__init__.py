"""Capture: live records become golden cases, with other subscribers' numbers in place of the real ones.

It writes files only.
"""
