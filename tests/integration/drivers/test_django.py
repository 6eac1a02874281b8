"""Django's ORM over psycopg 3, with server-side cursors off, and on where they are bound to a transaction."""

from collections.abc import Callable, Mapping
from typing import Any

import django
import pytest
from django.conf import settings
from django.db import DataError, IntegrityError, OperationalError, connections, models, transaction

from tests.integration.drivers.crowd import Place, Player, play
from tests.integration.drivers.losses import of_psycopg

pytestmark = [
    pytest.mark.usefixtures("alive"),
    # Cursors on connections that were lost are never closed.
    pytest.mark.filterwarnings("ignore:.*ServerCursor.*was deleted:ResourceWarning"),
]

ENGINE = "django.db.backends.postgresql"

if not settings.configured:
    settings.configure(DATABASES={"default": {"ENGINE": ENGINE}}, USE_TZ=True, LOGGING_CONFIG=None)
    django.setup(set_prefix=False)


class Deed(models.Model):  # type: ignore[misc]
    """A row of the clients' table."""

    pk = models.CompositePrimaryKey("client", "n")
    client = models.IntegerField()
    n = models.IntegerField()
    word = models.TextField()

    class Meta:
        app_label = "drivers"
        db_table = "deeds"
        managed = False


ALIASES: Mapping[str, dict[str, Any]] = {
    "as it comes": {"DISABLE_SERVER_SIDE_CURSORS": True},
    "prepared": {
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": {"server_side_binding": True, "prepare_threshold": 0},
    },
    "cursors in transactions": {"OPTIONS": {"server_side_binding": True, "prepare_threshold": 5}},
}


@pytest.fixture(params=ALIASES)
def alias(request: pytest.FixtureRequest, place: Place) -> str:
    """A database of Django's that leads to the place; connections stay open between requests."""
    target, name = place.target, f"{request.param} at {place.name}"
    connections.databases[name] = {
        **ALIASES[request.param],
        "ENGINE": ENGINE,
        "HOST": target.host,
        "PORT": target.port,
        "USER": target.user,
        "NAME": place.database,
        "CONN_MAX_AGE": None,
    }
    connections.configure_settings(connections.databases)
    return name


def is_loss(error: Exception) -> bool:
    """As of psycopg, in Django's classes; bare where Django closes a server-side cursor."""
    cause = error.__cause__ if isinstance(error, OperationalError) else error
    return isinstance(cause, Exception) and of_psycopg(cause)


class Client(Player):
    """A thread of an application; Django gives each thread a connection of its own."""

    def __init__(self, alias: str, number: int) -> None:
        self.alias, self.number = alias, number
        self.cursors = not connections.databases[alias].get("DISABLE_SERVER_SIDE_CURSORS", False)
        self.turns: list[Callable[[int], None]] = [self.write, self.read, self.error, self.raw, self.iterate]

    @property
    def deeds(self) -> Any:
        return Deed.objects.using(self.alias).filter(client=self.number)

    def turn(self, step: int) -> None:
        self.turns[step % len(self.turns)](step)

    def close(self) -> None:
        connections[self.alias].close()

    def write(self, step: int) -> None:
        with transaction.atomic(using=self.alias):
            self.deeds.delete()
            rows = [Deed(client=self.number, n=n, word=f"{step}") for n in range(12)]
            Deed.objects.using(self.alias).bulk_create(rows)
            with transaction.atomic(using=self.alias):
                assert self.deeds.filter(n__lt=3).update(word="changed") == 3

    def read(self, step: int) -> None:
        self.write(step)
        for n in range(1, 12, 3):
            assert self.deeds.get(n=n).word == ("changed" if n < 3 else f"{step}")
        assert self.deeds.aggregate(total=models.Sum("n"))["total"] == 66

    def error(self, step: int) -> None:
        twice = [Deed(client=self.number, n=1, word="twice")] * 2
        with pytest.raises(IntegrityError), transaction.atomic(using=self.alias):
            Deed.objects.using(self.alias).bulk_create(twice)
        self.read(step)

    def raw(self, step: int) -> None:
        with connections[self.alias].cursor() as cursor:
            for n in range(8):
                cursor.execute("select %s::int + 1, %s::text", [n, f"{step}"])
                assert cursor.fetchone() == (n + 1, f"{step}")
            with pytest.raises(DataError, match="division by zero"):
                cursor.execute("select %s::int / %s::int", [step, 0])

    def iterate(self, step: int) -> None:
        """A server-side cursor outside a transaction is one WITH HOLD, which belongs to the session."""
        self.write(step)
        if self.cursors:
            with transaction.atomic(using=self.alias):
                numbers = [deed.n for deed in self.deeds.order_by("n").iterator(chunk_size=5)]
        else:
            numbers = [deed.n for deed in self.deeds.order_by("n").iterator(chunk_size=5)]
        assert numbers == list(range(12))


def test_a_crowd_of_threads(place: Place, alias: str) -> None:
    play(place, lambda number: Client(alias, number), is_loss, clients=6)
