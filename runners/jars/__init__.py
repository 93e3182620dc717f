"""The Java part: which jars it needs, where they come from, and how it is built once.

The Java source itself is in `java`.
"""
