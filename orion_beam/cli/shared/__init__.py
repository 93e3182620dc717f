"""What several commands share: options, the filter of dead letters, progress, interrupts, late imports.

A command has a file of its own, one folder up.
"""
