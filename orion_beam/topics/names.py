"""Topics of this environment: those of the catalogue, with the topic prefix.

A job's configuration takes the names from here when it is made, and workers take them from the configuration.
"""

from collections.abc import Mapping

from orion_beam.countries import complete_profiles
from orion_beam.defaults import DEVELOPMENT, PRODUCTION
from orion_beam.schemas.codes import Stage
from orion_beam.topics.catalogue import OwnTopics, load_catalogue

__all__ = ["PUBLISHED_STAGES", "own_topics", "profile_for", "stage_topics", "topics_with_numbers"]

PUBLISHED_STAGES: Mapping[str, Stage] = {
    "validated": Stage.VALIDATE,
    "normalized": Stage.NORMALIZE,
    "enriched": Stage.ENRICH,
}
"""Stages whose output can be published, by their topic's field in the catalogue; a job can start from it."""


def own_topics() -> OwnTopics:
    """Return the topics that jobs and commands use.

    Raises:
        UserError: The workspace's catalogue is invalid.
    """
    return load_catalogue().topics


def stage_topics() -> dict[Stage, str]:
    """Return the name of the topic of each stage in PUBLISHED_STAGES."""
    topics = own_topics()
    return {stage: getattr(topics, field).name for field, stage in PUBLISHED_STAGES.items()}


def topics_with_numbers() -> tuple[str, ...]:
    """Return the names of the topics whose records hold subscribers' numbers: the raw ones of all countries as well.

    Raises:
        UserError: A profile is invalid, so the topic of its country is not known.
    """
    own = own_topics()
    raw = (profile.topic for profile in complete_profiles().values())
    return (*raw, *stage_topics().values(), own.final.name, own.dead_letters.name)


def profile_for(brokers: int) -> str:
    """Return the profile for a local cluster of so many brokers."""
    return PRODUCTION if brokers >= load_catalogue().profile(PRODUCTION).replication else DEVELOPMENT
