"""Rules for CDRs: validation, numbering plans, networks of the world, signs of fraud.

Each rule names its source (3GPP, ITU). General operations on columns belong in `arrow`.
"""
