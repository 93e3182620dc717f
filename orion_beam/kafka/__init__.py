"""Client library for Kafka: login, retries, admin calls, offset ranges, and messages as columns.

Code that knows a job or a CDR does not belong here.
"""

CONFIG_VARIABLE = "ORION_KAFKA_CONFIG"
"""Environment variable with the path of the properties file for login; `orion-beam --kafka-config` sets it."""

LOGIN_PREFIXES = ("security.", "sasl.", "ssl.", "enable.ssl.", "enable.sasl.")
"""Beginnings of the names of settings that are about logging in."""

CONSUMER_PREFIX = "consumer."
"""Before settings of the login file that only the Java consumer has."""

REGISTRY_PREFIX = "schema.registry."
"""Before settings of the login file that are those of the schema registry."""

SECRETS = (
    *("password", "secret", "passphrase", "jaas.config", "user.info", "key.pem", "keystore.key", "auth.token"),
    "sasl.oauthbearer.config",
)
"""Endings of the names of settings that hold secrets."""
