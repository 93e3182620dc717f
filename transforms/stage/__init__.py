"""What all stages share: batches, the split into accepted rows and dead letters, the way back from a stage's topic.

What only one stage does belongs into that stage's file.
"""
