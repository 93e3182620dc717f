"""Replay of retained raw topics: which offsets, in which pieces, how far it has come, and where its files go."""
