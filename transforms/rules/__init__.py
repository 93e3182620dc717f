"""What a CDR must be: the rules of validation, numbering plans, networks of the world, signs of fraud.

A rule's source (3GPP, ITU) stands beside it; how a column is searched belongs into `arrow`.
"""
