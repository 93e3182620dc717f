"""Proof that no record is lost: what came out, counted by source offset and compared with what went in.

A job needs nothing of it; `orion-beam audit` does.
"""
