"""Masking: what of a number may be seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orion_beam.telemetry.masking import mask, mask_line, without_secrets


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("+33612345678", "+3361••••678"),
        ("+21698123456", "+2169••••456"),
        ("+221771234567", "+2217•••••567"),
        ("208011234567890", "2080••••••••890"),
        ("35693803564380", "3569•••••••380"),
        ("12345678", "1••••678"),
        ("1234567", "••••567"),
        ("+123456", "+12••••"),
        ("7", "•"),
        ("+", "+"),
        ("", ""),
        (None, ""),
    ],
)
def test_prefix_and_last_digits_stay(number: str | None, masked: str) -> None:
    assert mask(number) == masked


@given(st.text("0123456789", max_size=20), st.booleans())
def test_at_least_four_digits_are_hidden(digits: str, has_plus: bool) -> None:
    masked = mask("+" * has_plus + digits)
    assert len(masked) == len(digits) + has_plus
    assert masked.count("•") >= min(4, len(digits))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:pass@host:1/x", "http://••••@host:1/x"),
        ("https://me:p@ss@host", "https://••••@host"),
        ("a //token@host, //me:pass@other", "a //••••@host, //••••@other"),
        ("http://host/me@x", "http://host/me@x"),
        ("--s3_secret_access_key=abc --x=1", "--s3_secret_access_key=•••• --x=1"),
        ('sasl.jaas.config=org.X required username="u" password="a\\"b c";', "sasl.jaas.config=••••"),
        ("{'sasl.password': 'a b', 'linger.ms': 5}", "{'sasl.password': ••••, 'linger.ms': 5}"),
        ("ssl.key.password = hunter2", "ssl.key.password = ••••"),
        ("a secret: of success", "a secret: •••• success"),
        ("the password is wrong", "the password is wrong"),
    ],
)
def test_logins_are_hidden(text: str, shown: str) -> None:
    assert without_secrets(text).startswith(shown)
    assert "pass@" not in without_secrets(text)
    assert "hunter2" not in without_secrets(text)
    assert 'a\\"b' not in without_secrets(text)


def test_the_id_of_a_flink_job_is_no_number_of_a_subscriber() -> None:
    line = "job 20f12345678901919c224c164df1dae7 of 208011234567890: file:/s/savepoint-fb66ca-e12345678901"
    assert mask_line(line) == (
        "job 20f12345678901919c224c164df1dae7 of 2080••••••••890: file:/s/savepoint-fb66ca-e12345678901"
    )
    assert mask_line("12345678901234567890123456789012") == "1234•••••••••••••••••••••••••012"
    assert mask_line("imsi208011234567890") == "imsi2080••••••••890"
