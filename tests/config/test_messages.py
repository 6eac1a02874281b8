"""Complaints of the validation library become sentences."""

import pytest
from pydantic import ValidationError

from config.messages import message_of, spellings
from config.settings import Settings


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("pool_mod", "x", 'unknown setting, did you mean "pool_mode"?'),
        ("service_nam", "x", 'unknown setting, did you mean "service_name"?'),
        ("qqqqqq", "x", "unknown setting"),
        ("log_stats", "maybe", "must be 0 or 1, not 'maybe'"),
        ("listen_port", "65536", "must be less than or equal to 65535"),
        ("pool_mode", "x", "must be 'session', 'transaction' or 'statement'"),
        ("databases", 5, "must be a table of settings"),
        ("databases", {"a": 5}, "must be a table of settings"),
        ("job_name", 5, "must be a valid string"),
    ],
)
def test_message(key: str, value: object, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({key: value})
    assert message_of(caught.value.errors()[0], Settings) == message


def test_spellings_are_keys_and_aliases() -> None:
    assert {"job_name", "service_name", "databases"} <= set(spellings(Settings))
