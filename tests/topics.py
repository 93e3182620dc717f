"""Topics of the shipped catalogue, under which the tests run where they say nothing else."""

from orion_beam.topics.catalogue import NamedTopic, load_catalogue

CATALOGUE = load_catalogue()
VALIDATED = CATALOGUE.topics.validated
NORMALIZED = CATALOGUE.topics.normalized
ENRICHED = CATALOGUE.topics.enriched
FINAL = CATALOGUE.topics.final
DEAD_LETTERS = CATALOGUE.topics.dead_letters
FINAL_PARTITIONS = FINAL.partitions


def raw_topic(country: str) -> NamedTopic:
    """Return the raw topic of a country."""
    return CATALOGUE.raw_topic(country)
