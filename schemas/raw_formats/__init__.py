"""Declarations of raw formats: the models of their TOML files."""
