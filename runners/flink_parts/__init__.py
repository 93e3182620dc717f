"""What `runners/flink.py` starts and configures: Beam's servers, Python workers, options, Flink's settings.

A Flink cluster for development is in `local`.
"""
