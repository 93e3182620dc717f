"""Topics of the catalogue that ORION Beam ships, as constants."""

from collections.abc import Mapping

from orion_beam.defaults import DEVELOPMENT, PRODUCTION
from orion_beam.schemas.codes import Stage
from orion_beam.topics.catalogue import Catalogue, NamedTopic, load_catalogue

CATALOGUE: Catalogue = load_catalogue()
"""Catalogue that ORION Beam ships."""

VALIDATED = CATALOGUE.topics.validated
NORMALIZED = CATALOGUE.topics.normalized
ENRICHED = CATALOGUE.topics.enriched
FINAL = CATALOGUE.topics.final
DEAD_LETTERS = CATALOGUE.topics.dead_letters
AUDIT = CATALOGUE.topics.audit
FINAL_PARTITIONS = FINAL.partitions

STAGE_TOPICS: Mapping[Stage, str] = {
    Stage.VALIDATE: VALIDATED.name,
    Stage.NORMALIZE: NORMALIZED.name,
    Stage.ENRICH: ENRICHED.name,
}
"""Topic of each stage whose output can be published; a job can start from it."""


def raw_topic(country: str) -> NamedTopic:
    """Return the raw topic of a country, to which its operators send."""
    return CATALOGUE.raw_topic(country)


def profile_for(brokers: int) -> str:
    """Return the profile for a local cluster of so many brokers."""
    return PRODUCTION if brokers >= CATALOGUE.profile(PRODUCTION).replication else DEVELOPMENT
