"""Client library for Kafka: login, retries, admin calls, offset ranges, and messages as columns.

Code that knows a job or a CDR does not belong here.
"""

CONFIG_VARIABLE = "ORION_KAFKA_CONFIG"
"""Environment variable with the path of the properties file for login; `orion-beam --kafka-config` sets it."""

SECRETS = (
    *("password", "secret", "passphrase", "jaas.config", "user.info", "key.pem", "keystore.key", "auth.token"),
    "sasl.oauthbearer.config",
)
"""Endings of the names of settings that hold secrets."""
