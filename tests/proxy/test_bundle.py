"""Snapshots packed, sent and unpacked are what they were."""

import io
import os
import pickle
from collections.abc import Iterator, Sequence

import pytest

from proxy import bundle
from proxy.bundle import Bundle, Merged, needed, pack, unpack
from proxy.metrics.prometheus import PARTS
from proxy.snapshot import ClientSnapshot, ServerSnapshot, StatementSnapshot
from tests.proxy.fakes import FakeSnapshots

ALL = (
    *("pools", "clients", "servers", "databases", "users", "stats", "lists", "prepared_statements"),
    *("statement_counts", "config", "peers", "peer_pools", "dns_hosts", "tls", "state", "reasons"),
    *("build", "loop_lag", "crowd", "workers"),
)


class Looked(FakeSnapshots):
    """Fakes whose clients come in parts."""

    def client_parts(self, size: int) -> Iterator[Sequence[ClientSnapshot]]:
        for at in range(0, len(self.client_list), size):
            yield self.client_list[at : at + size]


def packed(looked: Looked, parts: Sequence[str] = ALL, worker: int = 1) -> Bundle:
    return Bundle(worker, tuple(piece for piece in pack(looked, parts) if piece is not None))


@pytest.mark.parametrize("part", [part for part in ALL if part != "lists"])
def test_one_bundle_is_what_was_packed(part: str) -> None:
    looked = Looked()
    merged = Merged([packed(looked)])
    got, expected = getattr(merged, part)(), getattr(looked, part)()
    if part == "prepared_statements":
        assert [row for row in got if row is not None] == [row for row in expected if row is not None]
    elif isinstance(expected, Sequence):
        assert list(got) == list(expected)
    else:
        assert got == expected


def test_lists_of_two_count_databases_once() -> None:
    one = Merged([packed(Looked()), packed(Looked(), worker=2)]).lists()
    assert (one.databases, one.users, one.pools, one.dns_names) == (2, 2, 2, 1)
    assert one.used_clients == 2 * Looked().lists().used_clients


def test_a_bundle_survives_the_way_through_another_process() -> None:
    sent = packed(Looked())
    assert pickle.loads(pickle.dumps(sent)) == sent


def test_many_rows_come_in_pieces() -> None:
    clients = [ClientSnapshot(number, "active") for number in range(1000)]
    servers = [ServerSnapshot(number, "idle") for number in range(450)]
    texts = [StatementSnapshot("app", "alice", str(number), 1, 1, 1, 1, 0) for number in range(401)]
    looked = Looked(client_list=clients, server_list=servers, statement_list=[None, *texts])
    parts = ("clients", "servers", "prepared_statements")
    pieces = [piece for piece in pack(looked, parts) if piece is not None]
    assert max(len(unpack(piece)) for piece in pieces) == bundle.SIZE
    merged = Merged([Bundle(1, tuple(pieces))])
    assert list(merged.clients()) == clients
    assert list(merged.servers()) == servers
    assert sum(row is not None for row in merged.prepared_statements()) == 401


def test_the_crowd_is_counted_with_pauses() -> None:
    looked = Looked(client_list=[ClientSnapshot(number, "active") for number in range(1000)])
    steps = list(pack(looked, ("crowd",)))
    assert steps.count(None) == 1000 // bundle.SIZE
    assert Merged([Bundle(1, tuple(step for step in steps if step))]).crowd() == looked.crowd()


def test_nobody_is_asked_for_less_than_is_merged() -> None:
    assert needed(["state", "lists"]) == ("state", "lists", "databases", "users", "pools", "dns_hosts")
    merged = Merged([packed(Looked(), needed(PARTS))])
    for part in PARTS:
        getattr(merged, part)()


@pytest.mark.parametrize("wrong", [os.system, io.BytesIO, pickle.Unpickler])
def test_nothing_but_snapshots_comes_out(wrong: object) -> None:
    with pytest.raises(pickle.UnpicklingError, match="no part of a snapshot"):
        unpack(("pools", pickle.dumps(wrong)))


def test_what_a_module_of_snapshots_has_imported_does_not_come_out() -> None:
    with pytest.raises(pickle.UnpicklingError):
        unpack(("pools", b"cproxy.snapshot\ndataclass\n."))


def test_who_did_not_answer_is_known() -> None:
    assert Merged([], [2, 3]).silent() == [2, 3]
