"""What bad input gets from the desk and from capture: one line, and exit code 2, before any broker is asked."""

import pytest

DESK = ("--bootstrap-servers", "127.0.0.1:1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stats", "--from", "2026-01-02T00:00Z", "--to", "2026-01-01T00:00Z"), "is not before --to"),
        (("stats", "--from", "2026-01-02T00:00"), "say which zone"),
        (("ls", "--to", "yesterday"), "is no time"),
        (("ls", "--last", "6"), "is no duration"),
        (("ls", "--last", "6h", "--from", "2026-01-02T00:00Z"), "--last and --from do not go together"),
        (("ls", "--last", "1h", "--to", "2026-01-02T00:00Z"), "--last 1h is not before --to"),
        (("ls", "--code", "invalid_imsi,bad"), "--code bad: expected some of malformed_payload"),
        (("ls", "--country", "XX"), "--countries XX: expected some of"),
        (("retest", "--stage", "Write"), "--stage Write: expected some of decode"),
        (("stats", "--offsets", "0:1-2"), "PARTITION=FROM-TO"),
        (("stats", "--offsets", "0=5-5"), "the end must be behind the start"),
        (("show", "3-17"), "PARTITION@OFFSET"),
        (("redrive", "--set", "rat"), "expected FIELD=VALUE"),
        (("redrive", "--set", "colour=red"), "there is no such field"),
        (("redrive", "--set", "rat=4G", "--patch", "x.py"), "do not go together"),
        (("redrive", "--patch", "no-such-file.py"), "No such file"),
    ],
)
def test_a_mistake_is_one_line_that_says_how_to_mend_it(orion_beam, arguments, message):
    answer = orion_beam("dlq", *arguments, *DESK)
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.count("\n") == 1


def test_a_value_that_is_set_is_not_repeated_in_the_message(orion_beam):
    answer = orion_beam("dlq", "redrive", "--set", "number=208011234567890", *DESK)
    assert answer.code == 2
    assert "208011234567890" not in answer.err


@pytest.mark.parametrize(("content", "message"), [(None, "No such file"), (b"short", "has 5 bytes")])
def test_a_key_must_be_there_and_long_enough(orion_beam, tmp_path, content, message):
    key = tmp_path / "key"
    if content is not None:
        key.write_bytes(content)
    answer = orion_beam("capture", *DESK, "--output", tmp_path / "out", "--key-file", key)
    assert answer.code == 2
    assert message in answer.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command", [("dlq", each) for each in ("stats", "ls", "show", "export", "retest", "redrive")] + [("capture",)]
)
def test_every_command_has_help_with_an_example(orion_beam, command):
    answer = orion_beam(*command, "--help")
    assert answer.code == 0
    assert "Example: orion-beam" in " ".join(answer.out.split())
