"""Monitoring of jobs: alert rules, dashboards, the brokers' JMX rules, and a Prometheus for development.

The metrics themselves come from `orion_beam/monitoring`.
"""
