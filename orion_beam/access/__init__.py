"""Access to a Kafka cluster as code: what each role may do, and the ACLs that let its users do it and no more.

How a client logs in is in `kafka`.
"""
