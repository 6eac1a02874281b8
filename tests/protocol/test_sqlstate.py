import re

from protocol import sqlstate

CODES = {name: code for name, code in vars(sqlstate).items() if name.isupper()}


def test_every_code_is_five_digits_or_capitals() -> None:
    assert CODES
    assert [code for code in CODES.values() if not re.fullmatch(r"[0-9A-Z]{5}", code)] == []


def test_no_code_has_two_names() -> None:
    assert len(set(CODES.values())) == len(CODES)


def test_the_codes_that_clients_act_upon_are_postgresqls() -> None:
    assert sqlstate.PROTOCOL_VIOLATION == "08P01"
    assert sqlstate.INVALID_PASSWORD == "28P01"
    assert sqlstate.INVALID_CATALOG_NAME == "3D000"
    assert sqlstate.TOO_MANY_CONNECTIONS == "53300"
    assert sqlstate.QUERY_CANCELED == "57014"
    assert sqlstate.ADMIN_SHUTDOWN == "57P01"
    assert sqlstate.FEATURE_NOT_SUPPORTED == "0A000"
