"""Parts of `runners/flink.py`: Beam's servers, Beam's options, Flink's settings.

Python workers are in `worker_pool`, a Flink cluster for development in `local`.
"""
