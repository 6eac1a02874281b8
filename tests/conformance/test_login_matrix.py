"""Logins by every client method, form of secret and server method; all of them by
`python -m tests.conformance.login_matrix`, here those in which each meets each other.
"""

import itertools
from collections import Counter

import pytest

from proxy.demo.binaries import NoPostgres
from tests.conformance.login_matrix.play import staged
from tests.conformance.login_matrix.rule import (
    Cell,
    Client,
    Driver,
    Form,
    Outcome,
    Server,
    cells,
    expected,
    paired,
)
from tests.support.certificates import Pki

IN, NOT_BELIEVED, NO_SERVER = Outcome.IN, Outcome.NOT_BELIEVED, Outcome.NO_SERVER


@pytest.mark.parametrize(
    ("client", "form", "server", "tls", "right", "outcome"),
    [
        (Client.SCRAM, Form.VERIFIER, Server.SCRAM, False, True, IN),
        (Client.SCRAM, Form.VERIFIER, Server.SCRAM, False, False, NOT_BELIEVED),
        (Client.TRUST, Form.VERIFIER, Server.SCRAM, False, True, NO_SERVER),
        (Client.SCRAM, Form.MD5, Server.MD5, False, True, NOT_BELIEVED),
        (Client.MD5, Form.MD5, Server.MD5, False, True, IN),
        (Client.PLAIN, Form.PLAIN, Server.PASSWORD, False, True, NO_SERVER),
        (Client.PLAIN, Form.PLAIN, Server.PASSWORD, True, True, IN),
        (Client.PLUS, Form.QUERY, Server.PLUS, True, True, IN),
        (Client.CERT, Form.FORCED, Server.PLUS, True, True, IN),
    ],
)
def test_the_rule_says_what_everybody_would(
    client: Client, form: Form, server: Server, tls: bool, right: bool, outcome: Outcome
) -> None:
    assert expected(Cell(client, form, server, tls, right, Driver.PSYCOPG)) is outcome


def test_in_the_short_form_each_value_meets_each_other() -> None:
    every, short = list(cells()), paired(cells())
    assert len(short) < len(every) / 10

    def met(chosen: list[Cell]) -> set[tuple[object, ...]]:
        values = [
            (cell.client, cell.form, cell.server, ("tls", cell.tls), ("right", cell.right), cell.driver)
            for cell in chosen
        ]
        return {pair for row in values for pair in itertools.combinations(row, 2)}

    assert met(short) == met(every)
    assert set(Counter(map(expected, short))) == set(Outcome)


@pytest.mark.slow
def test_every_login_goes_as_the_rule_says(pki: Pki) -> None:
    try:
        with staged(pki) as stage:
            played = stage.play(paired(cells()))
    except NoPostgres:
        pytest.skip("no system PostgreSQL here")
    assert not played.wrong
    assert played.count == len(paired(cells()))
