"""The rights of roles, on the names of an environment. tests/integration/test_secured.py has them on a cluster."""

import pytest

from orion_beam.access.acls import Acl, wanted_acls
from orion_beam.access.roles import ROLES, Resource, resource_names, rights_of
from orion_beam.defaults import Role
from orion_beam.job_file.environment import PREFIX_VARIABLE, default_group
from orion_beam.schemas.codes import Stage


def test_every_role_has_rights_and_every_place_a_name() -> None:
    assert ROLES.keys() == set(Role)
    names = resource_names(["FR"], "orion-beam", [Stage.VALIDATE], None)
    assert names.keys() == set(Resource)
    assert all(names.values())


def test_the_names_have_the_prefix_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX_VARIABLE, "staging.")
    names = resource_names(["FR"], default_group(), [Stage.VALIDATE], None)
    acls = wanted_acls({role: ["User:a"] for role in Role}, names)
    own = {acl.name for acl in acls if acl.kind != "cluster"} - set(names[Resource.READERS])
    assert own
    assert [name for name in own if not name.startswith("staging.")] == []


def test_a_job_that_starts_from_a_stage_reads_its_topic_and_no_raw_one() -> None:
    names = resource_names(["FR"], "orion-beam", [], Stage.VALIDATE)
    assert "READ topic cdr.validated" in map(str, rights_of(Role.STREAM, names))
    assert not any("cdr.raw" in str(right) for right in rights_of(Role.STREAM, names))


def test_a_user_of_two_roles_gets_each_acl_once() -> None:
    names = resource_names(["FR"], "orion-beam", [], None)
    acls = wanted_acls({Role.REPLAY: ["User:a"], Role.AUDIT: ["User:a", "User:b"]}, names)
    assert len(acls) == len(set(acls))
    assert {acl.principal for acl in acls} == {"User:a", "User:b"}
    assert str(Acl("User:a", "topic", "cdr.", "READ", "PREFIXED", "DENY", "10.1.1.1")) == (
        "User:a may not READ topic cdr.… from 10.1.1.1"
    )
