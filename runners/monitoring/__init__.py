"""What watches the jobs: alert rules, dashboards, the brokers' JMX rules, and a Prometheus for development.

What these read is made by `orion_beam/monitoring`.
"""
