"""Code that all stages share: batches, the split into accepted rows and dead letters, the reading of a stage's topic.

Code of a single stage belongs in that stage's file.
"""
