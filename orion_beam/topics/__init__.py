"""Topics as code: the catalogue, the plan of changes to a cluster, and the code that applies a plan.

Calls to brokers that know no catalogue belong in `kafka`.
"""
