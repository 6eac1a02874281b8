"""Logins by password, said by hand up to the step that a test wants to get wrong.

Law: users are the roles of the PostgreSQL behind, with the passwords they have
there, so that a login means the same to it and to a pooler before it.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping

import psycopg
import pytest

from tests.conformance.expect import the_only_error
from tests.support import messages as m
from tests.support import postgres
from tests.support.messages import Message
from tests.support.pooler import PgBouncer, Pooler
from tests.support.scram import ScramClient, verifier
from tests.support.wire import Raw

PLAIN, MD5, SCRAM = postgres.APP_PLAIN.name, postgres.APP_MD5.name, postgres.APP.name
"""Users whose secret is stored in that form; PostgreSQL asks each for its password in that way."""
NOBODY = "stranger"

PASSWORDS: Mapping[str, str] = {
    role.name: role.password or "" for role in (postgres.APP_PLAIN, postgres.APP_MD5, postgres.APP)
}
SECRETS: Mapping[str, str] = {
    PLAIN: PASSWORDS[PLAIN],
    MD5: "md5" + hashlib.md5((PASSWORDS[MD5] + MD5).encode()).hexdigest(),
    SCRAM: verifier(PASSWORDS[SCRAM]),
}
"""As in the auth_file."""

WORKING = [
    ("plain", PLAIN),
    ("plain", MD5),
    ("plain", SCRAM),
    ("md5", PLAIN),
    ("md5", MD5),
    ("md5", SCRAM),
    ("scram-sha-256", PLAIN),
    ("scram-sha-256", SCRAM),
]
"""Which secrets serve which auth_type; md5 runs SCRAM for a SCRAM secret, as PgBouncer does."""

METHODS = ("plain", "md5", "scram-sha-256")

_CLEARTEXT, _MD5, _SASL, _SASL_CONTINUE = 3, 5, 10, 11


def answering(user: str, password: str) -> Callable[[Message], bytes]:
    """Answers whatever password request comes, rightly if the password is right."""
    scram = ScramClient(password)

    def answer(request: Message) -> bytes:
        kind, data = int.from_bytes(request.body[:4], "big"), request.body[4:]
        if kind == _CLEARTEXT:
            return m.password(password)
        if kind == _MD5:
            inner = hashlib.md5((password + user).encode()).hexdigest().encode()
            return m.password("md5" + hashlib.md5(inner + data).hexdigest())
        if kind == _SASL:
            return m.sasl_initial("SCRAM-SHA-256", scram.first())
        assert kind == _SASL_CONTINUE, request
        return m.sasl_response(scram.final(data))

    return answer


class Asking(Pooler):
    """A pooler that asks for passwords; its raw clients know those of their users."""

    def raw(
        self,
        database: str | None = None,
        user: str | None = None,
        parameters: Mapping[str, str | bytes] | None = None,
        *,
        timeout: float = 10.0,
        version: int = m.PROTOCOL_3_0,
    ) -> Raw:
        name = user or self.user
        password = PASSWORDS.get(name, self.secrets.get(name, ""))
        client = self.socket(timeout)
        try:
            answer = answering(name, password)
            client.login(name, database or self.database, parameters, version=version, answer=answer)
        except BaseException:
            client.close()
            raise
        return client


class AskingPgBouncer(Asking, PgBouncer):
    """PgBouncer likewise."""


ASKING: Mapping[str, type[Asking]] = {"howdah": Asking, "pgbouncer": AskingPgBouncer}


# --- by hand ---------------------------------------------------------------------------------------


def fails(pooler: Pooler, user: str, password: str, database: str | None = None) -> str:
    """The text with which a login by libpq is refused."""
    with pytest.raises(psycopg.OperationalError) as caught:
        pooler.connect(database, user, password=password)
    return str(caught.value)


def begin(pooler: Pooler, user: str) -> tuple[Raw, Message]:
    """A client that has sent its startup packet, and the authentication request it got."""
    client = pooler.socket()
    client.send(m.startup({"user": user, "database": pooler.database}))
    return client, client.message()


def refused(client: Raw) -> m.Fields:
    """The FATAL that ends a login, which is all that comes."""
    got = client.until_closed(within=2)
    assert m.tags(got) == "E", got
    fields = the_only_error(got)
    assert fields["S"] == "FATAL"
    return fields


def scram_until_final(client: Raw, scram: ScramClient) -> bytes:
    """Sends the first message and returns the server's first."""
    client.send(m.sasl_initial("SCRAM-SHA-256", scram.first()))
    answer = client.message()
    assert answer.tag == b"R", m.fields_of(answer.body)
    assert answer.body[:4] == m.int32(_SASL_CONTINUE)
    return answer.body[4:]


def salt_length(attributes: Mapping[str, str]) -> int:
    return len(base64.b64decode(attributes["s"]))
