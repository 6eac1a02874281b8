"""Who did what is written down; what may be a password is not."""

import pytest

from proxy.admin.journal import hidden, refused, understood
from proxy.admin.parser import SetCommand, parse


@pytest.mark.parametrize(
    ("text", "logged"),
    [
        ("SET query_timeout = '1'", "SET query_timeout = '1'"),
        ("set Pool_Mode to session;", "set Pool_Mode to session;"),
        ("SET service_name = x", "SET service_name = x"),
        ("SET auth_ldap_options = 'ldapbindpasswd=geheim'", "SET auth_ldap_options = ***"),
        ("SET mock_authentication_nonce = 'geheim'", "SET mock_authentication_nonce = ***"),
        ("SET auth_query = 'select geheim'", "SET auth_query = ***"),
        ("SET password = geheim", "SET password = ***"),
        ("SET \"no such\" = 'geheim'", "SET no such = ***"),
    ],
)
def test_a_value_that_may_be_a_password_is_left_out(text: str, logged: str) -> None:
    command = parse(text.encode())
    assert isinstance(command, SetCommand)
    assert understood(command) == logged


@pytest.mark.parametrize(
    ("text", "logged"),
    [
        ("KILL app", "KILL app"),
        ("SET password geheim", "SET password ***"),
        ("  set\npassword = 'geheim", "set\npassword ***"),
        ("SET a = 'x'; SET password = 'geheim'", "SET a ***"),
        ("ALTER USER joe PASSWORD 'geheim'", "ALTER USER ***"),
        ("CREATE ROLE joe PASSWORD 'ge''heim' LOGIN", "CREATE ROLE joe PASSWORD *** LOGIN"),
        ("CREATE ROLE joe PASSWORD 'geheim", "CREATE ROLE joe PASSWORD ***"),
        ("CREATE ROLE joe PASSWORD $x$geheim$x$ LOGIN", "CREATE ROLE joe PASSWORD *** LOGIN"),
        ("SETTLE app", "SETTLE app"),
    ],
)
def test_of_what_was_not_understood_all_that_is_quoted_is_left_out(text: str, logged: str) -> None:
    assert hidden(text) == logged


@pytest.mark.parametrize(
    ("text", "reason", "logged"),
    [
        ("KILL app;", "admin access needed", "admin access needed: KILL app;"),
        ("KILL\napp", "admin access needed", "admin access needed: KILL\\x0aapp"),
        ("SET password='x'", "admin access needed", "admin access needed: SET password ***"),
        (
            "FROB 'x' y",
            "invalid command 'FROB 'x' y', use SHOW HELP;",
            "invalid command 'FROB *** y', use SHOW HELP;",
        ),
        ("FROB " + "a" * 2000, "invalid command 'FROB aaa...', use SHOW HELP;", None),
    ],
)
def test_a_refusal_is_written_down_with_its_reason(text: str, reason: str, logged: str | None) -> None:
    line = refused(text, reason)
    assert line == logged if logged is not None else len(line) <= 1100
    assert line.isprintable()
