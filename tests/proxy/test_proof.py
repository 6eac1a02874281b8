import asyncio
import logging
from pathlib import Path

import pytest

from protocol.login import ALL_METHODS
from proxy.pool import states
from proxy.proof import METHODS
from tests.proxy.dialling import dial, gone, opened, pool_of
from tests.support import messages as m
from tests.support.rig import Rig
from tests.support.script import Conversation, Script, default_script

SHA, PLUS = b"SCRAM-SHA-256\0", b"SCRAM-SHA-256-PLUS\0"


def asking(kind: int, data: bytes, heard: list[bytes]) -> Script:
    """A server that asks for this, and notes what it is told until the other side hangs up."""

    def script(conversation: Conversation) -> None:
        conversation.send(m.authentication(kind, data))
        while True:
            heard.append(conversation.read().body)

    return script


def test_every_method_has_a_word() -> None:
    assert set(METHODS.values()) == ALL_METHODS


@pytest.mark.parametrize(
    ("entry", "kind", "data", "text"),
    [
        ({}, 3, b"", "a clear-text password, which is not allowed"),
        ({"require_auth": "password"}, 3, b"", "a clear-text password over an unencrypted connection"),
        ({"require_auth": "scram-sha-256"}, 5, b"salt", "an MD5 password, which is not allowed"),
        ({"require_auth": "md5, none"}, 10, SHA + b"\0", "SCRAM-SHA-256, which is not allowed"),
        (
            {"require_auth": "scram-sha-256"},
            0,
            b"",
            "nothing to prove who we are, which is not allowed",
        ),
        ({"channel_binding": "require"}, 10, SHA + b"\0", "channel binding is required"),
        ({"channel_binding": "require"}, 5, b"salt", "channel binding is required"),
        ({}, 10, PLUS + SHA + b"\0", "SCRAM-SHA-256-PLUS over an unencrypted connection"),
    ],
)
async def test_a_server_that_asks_for_what_it_may_not_have_gets_nothing(
    entry: dict[str, str], kind: int, data: bytes, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    heard: list[bytes] = []
    async with Rig(asking(kind, data, heard), database={"password": "geheim", **entry}) as rig:
        pool = pool_of(rig)
        dial(rig, pool)
        await gone(rig, pool)
        assert text in str(pool.refusal)
    assert heard == []
    assert "geheim" not in caplog.text


async def test_the_databases_terms_beat_the_global_ones() -> None:
    database = {"require_auth": "none"}
    async with Rig(default_script, database=database, server_auth_methods="scram-sha-256") as rig:
        assert (await opened(rig, pool_of(rig))).state == states.IDLE


async def test_a_unix_socket_may_carry_a_password_in_clear_text(tmp_path: Path) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big") - 4)
        writer.write(m.authentication(3))
        heard.put_nowait(await reader.readuntil(b"geheim\0"))
        writer.write(m.error_response("28P01", "no"))
        writer.close()

    listener = await asyncio.start_unix_server(server, tmp_path / ".s.PGSQL.5432")
    database = {"password": "geheim", "host": str(tmp_path), "port": 5432, "require_auth": "password"}
    async with listener, Rig(database=database) as rig:
        pool = pool_of(rig)
        dial(rig, pool)
        await gone(rig, pool)
    assert heard.get_nowait() == b"p\0\0\0\x0bgeheim\0"
