"""Build of the Java part: the jars that it needs, where they come from, and how it is built once.

The Java sources are in `java`.
"""
