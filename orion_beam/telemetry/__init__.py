"""What a process tells about itself: log lines, masked values, counters, a worker's metrics.

What an observer outside of the job finds out belongs in `monitoring`.
"""
