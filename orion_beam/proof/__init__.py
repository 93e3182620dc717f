"""Proof that no record is lost: output records are counted by source offset and compared with the raw topics.

`orion-beam audit` uses it. Code that a running job needs does not belong here.
"""
