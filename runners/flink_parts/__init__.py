"""Parts of `runners/flink.py`: Beam's servers, Python workers, Beam's options, Flink's settings.

A Flink cluster for development is in `local`.
"""
