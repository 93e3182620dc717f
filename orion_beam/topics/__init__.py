"""Topics as code: the catalogue, the plan of changes to a cluster, and what applies it.

Calls to brokers that know no catalogue are in `kafka`.
"""
