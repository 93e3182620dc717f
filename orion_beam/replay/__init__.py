"""Replays of retained raw topics: the offsets, the chunks, the run's files, and the differences of two runs.

Code that reads a chunk belongs in `io`; code that runs it belongs in `runners/replay.py`.
"""
