"""Which method a client meets, what it is checked against, and who comes in by the back door."""

import pytest

from tests.support import messages as m
from tests.support.rig import Rig


@pytest.mark.parametrize(
    ("auth_type", "request_"),
    [("plain", m.int32(3)), ("md5", m.int32(5)), ("scram-sha-256", m.int32(10))],
)
async def test_the_method_is_the_configured_one_for_known_and_unknown_users(
    auth_type: str, request_: bytes
) -> None:
    async with Rig(auth_type=auth_type, credentials={"alice": "secret"}) as rig:
        for user in ("alice", "nobody"):
            peer = await rig.connect()
            peer.send(m.startup({"user": user, "database": "app"}))
            assert (await peer.password()).body[:4] == request_


async def test_a_user_of_any_name_comes_in_where_nobody_is_asked() -> None:
    async with Rig(auth_type="any", credentials={}) as rig:
        peer = await rig.connect()
        await peer.login("whoever")


async def test_trust_is_for_users_who_are_known() -> None:
    async with Rig(auth_type="trust", credentials={"alice": "secret"}) as rig:
        await (await rig.connect()).login("alice")
        peer = await rig.connect()
        peer.send(m.startup({"user": "nobody", "database": "app"}))
        assert (await peer.error())["C"] == "28000"


async def test_by_tcp_the_name_of_the_back_door_opens_nothing() -> None:
    async with Rig(auth_type="plain", credentials={"alice": "secret"}) as rig:
        peer = await rig.connect()
        peer.send(m.startup({"user": "pgbouncer", "database": "pgbouncer"}))
        await peer.password()
