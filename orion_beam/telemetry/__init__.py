"""What a process says of itself: log lines, masked values, counters, metrics of a worker.

What an observer outside of the job finds out belongs into `monitoring`.
"""
