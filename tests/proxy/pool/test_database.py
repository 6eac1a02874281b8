from config.databases import DatabaseSettings
from proxy.pool.database import Database, User


def test_a_new_database_takes_clients_and_has_none() -> None:
    database = Database("app", DatabaseSettings(), automatic=True, now=7)

    assert (database.paused, database.disabled, database.dead) == (False, False, False)
    assert (database.automatic, database.clients, database.idle_since) == (True, 0, 7)


def test_a_new_user_has_no_clients() -> None:
    assert User("alice").clients == 0


def test_a_change_of_the_schema_is_counted_and_told() -> None:
    database = Database("app", DatabaseSettings(), automatic=False, now=7)
    database.alter()
    told = list[str]()
    database.altered = told.append
    database.alter()
    assert (database.ddl, told) == (2, ["app"])
