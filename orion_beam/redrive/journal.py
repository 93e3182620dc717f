"""Journal: a compacted topic that records who did what with dead letters, and which records were sent back."""

from orion_beam.kafka.admin import admin_client, cluster_metadata, create
from orion_beam.kafka.entries import Entry, read_entries, write_entry
from orion_beam.topics.apply import new_topic
from orion_beam.topics.catalogue import load_catalogue
from orion_beam.topics.names import own_topics, profile_for


def journal_topic() -> str:
    """Return the name of the journal's topic."""
    return own_topics().audit.name


def ensure_journal(bootstrap_servers: str) -> None:
    """Create the journal's topic if it is missing, with the profile that fits the number of brokers.

    Raises:
        PrerequisiteError: The broker cannot be reached.
        UserError: The broker refuses.
    """
    cluster = cluster_metadata(admin_client(bootstrap_servers), bootstrap_servers)
    journal = journal_topic()
    if journal not in cluster.topics:
        topics = load_catalogue().topics_of([], profile_for(len(cluster.brokers)))
        create(bootstrap_servers, [new_topic(topic) for topic in topics if topic.name == journal])


def read_journal(bootstrap_servers: str, prefix: str = "") -> dict[str, Entry]:
    """Return the newest committed entry of each key that begins with `prefix`; skip messages that are not entries.

    Raises:
        PrerequisiteError: The broker cannot be reached, or lacks the topic.
    """
    return {key: entry for key, entry in read_entries(bootstrap_servers, journal_topic()) if key.startswith(prefix)}


def write_journal(bootstrap_servers: str, key: str, entry: Entry) -> None:
    """Write one entry; the broker has it when this returns.

    Raises:
        UserError: The broker did not take the entry before the deadline.
    """
    ensure_journal(bootstrap_servers)
    write_entry(bootstrap_servers, journal_topic(), key, entry)
