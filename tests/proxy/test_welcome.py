from protocol.authentication import AuthenticationOk
from protocol.backend import ParameterStatus
from proxy.welcome import _MOST, Welcomes, encoded
from tests.proxy.dialling import pool_of
from tests.support.rig import Rig

GREETING = {b"server_version": b"18.0", b"TimeZone": b"UTC", b"application_name": b""}


async def test_the_welcome_has_the_greeting_with_what_was_asked_for() -> None:
    async with Rig() as rig:
        pool = pool_of(rig)
        pool.greeting = GREETING
        pool.accepted.learn(b"timezone", b"europe/rome", b"Europe/Rome")
        welcome = Welcomes().find(pool, {b"timezone": b"europe/rome"})
        assert welcome.data == encoded(GREETING | {b"TimeZone": b"Europe/Rome"})
        assert welcome.values[pool.tracked.index(b"timezone")] == b"Europe/Rome"
        assert welcome.values[pool.tracked.index(b"client_encoding")] is None


async def test_it_is_made_once_for_all_who_ask_for_the_same() -> None:
    async with Rig() as rig:
        pool, other = pool_of(rig), pool_of(rig, "bob")
        pool.greeting = other.greeting = GREETING
        welcomes = Welcomes()
        asked = {b"application_name": b"shop"}
        welcome = welcomes.find(pool, asked)
        assert welcomes.find(pool, dict(asked)) is welcome
        assert welcomes.find(pool, {b"application_name": b"till"}) is not welcome
        assert welcomes.find(other, asked) is not welcome


async def test_another_greeting_makes_another_welcome() -> None:
    async with Rig() as rig:
        pool = pool_of(rig)
        pool.greeting = GREETING
        welcomes = Welcomes()
        before = welcomes.find(pool, {})
        pool.greeting = GREETING | {b"server_version": b"19.0"}
        assert b"19.0" in welcomes.find(pool, {}).data
        assert b"19.0" not in before.data


async def test_names_that_differ_for_each_client_do_not_pile_up() -> None:
    async with Rig() as rig:
        pool = pool_of(rig)
        pool.greeting = GREETING
        welcomes = Welcomes()
        for number in range(_MOST + 5):
            welcomes.find(pool, {b"application_name": b"%d" % number})
        assert len(welcomes) == 5


def test_a_greeting_begins_with_the_good_news() -> None:
    expected = AuthenticationOk().encode() + ParameterStatus(b"TimeZone", b"UTC").encode()
    assert encoded({b"TimeZone": b"UTC"}) == expected
