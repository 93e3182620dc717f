"""Jobs on Flink clusters: what the cluster says of them, and their history.

Building, submitting and stopping them is the business of `runners/cluster`.
"""
