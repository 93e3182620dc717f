"""Code that several commands share: options, the filter of dead letters, progress, interrupts, late imports.

Each command has a file of its own, one folder up.
"""
