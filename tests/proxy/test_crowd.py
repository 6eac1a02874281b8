from proxy.crowd import NAME_LIMIT, Crowd
from proxy.snapshot import ClientSnapshot, ServerSnapshot


def test_connections_are_counted_by_side_version_and_cipher() -> None:
    crowd = Crowd()
    crowd.add_clients([ClientSnapshot(1, "active", tls="TLSv1.2/A"), ClientSnapshot(2, "login")])
    crowd.add_servers(
        [ServerSnapshot(3, "idle", tls="TLSv1.3/B"), ServerSnapshot(4, "idle", tls="TLSv1.3/B")]
    )
    assert crowd.counted().encryption == {
        ("client", "TLSv1.2", "A"): 1,
        ("client", "", ""): 1,
        ("server", "TLSv1.3", "B"): 2,
    }


def test_clients_that_are_in_are_counted_by_whom_and_what_they_do() -> None:
    crowd = Crowd()
    one = ClientSnapshot(1, "active", "alice", "app", application_name="shop" * 40)
    crowd.add_clients([one, ClientSnapshot(2, "login")])
    crowd.add_clients([one])
    assert crowd.counted().clients == {("app", "alice", ("shop" * 40)[:NAME_LIMIT], "idle"): 2}
