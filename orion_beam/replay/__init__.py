"""Replays of retained raw topics: which offsets, in which chunks, and how two runs differ.

How a chunk is read is in `io`; how it runs is in `runners/replay.py`.
"""
