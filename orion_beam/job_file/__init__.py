"""Job file `orion.yaml`: its model, its reading with checks, and what it gives to the options of commands.

Code that starts a job, or knows the countries' profiles, does not belong here.
"""
