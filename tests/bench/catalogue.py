"""Every workload by name, in the order they are run and printed."""

from collections.abc import Mapping, Sequence

from tests.bench.connections import Copy, Idle, Login, Start
from tests.bench.pgbench import Load
from tests.bench.surrounded import Surrounded
from tests.bench.targets import pgbouncer_release
from tests.bench.workloads import Compared, Encrypted, Latency, Throughput, Workload

_ROWS = "select generate_series(1, 5000);\n"
_LONG_ROW = "select repeat('x', 1000000);\n"
_WIDE_ROWS = "select repeat('x', 10000) from generate_series(1, 100);\n"
_SETS = """\\set n random(1, 8)
\\set aid random(1, 100000)
set application_name = :n;
select abalance from pgbench_accounts where aid = :aid;
"""
_ZONES = ("UTC", "Europe/Berlin", "Asia/Tokyo", "America/Lima")

_PROFILES: tuple[Mapping[str, str], ...] = tuple(
    {"PGAPPNAME": f"bench {number}", "PGTZ": _ZONES[number % len(_ZONES)]} for number in range(8)
)
_ON_16 = {"default_pool_size": "16"}
_ON_8 = {"default_pool_size": "8"}
_TLS = {
    "client_tls_sslmode": "allow",
    "client_tls_cert_file": "{folder}/pooler.crt",
    "client_tls_key_file": "{folder}/pooler.key",
}
# From here on PgBouncer knows prepared statements in transaction mode.
_KNOWS_STATEMENTS = (1, 21)
_SCRAM = {"auth_type": "scram-sha-256", "auth_file": "{folder}/verifiers.txt"}


def workloads() -> Sequence[Workload]:
    """New objects each time: a workload may remember what it prepared."""
    groups = _small(), _prepared(), _encrypted(), _large(), _parameters(), _latency(), _logins(), _idle()
    return [workload for group in groups for workload in group]


def _small() -> list[Workload]:
    return [
        Throughput(
            name="simple",
            title="select-only, simple protocol, 64 clients on 16 servers",
            load=Load(64),
            settings=_ON_16,
            bars={"cpu": 1.15},
        ),
        Throughput(
            name="extended",
            title="select-only, extended protocol, 64 clients on 16 servers",
            load=Load(64, "extended"),
            settings=_ON_16,
            bars={"cpu": 1.15},
        ),
        Throughput(
            name="light",
            title="select-only, simple protocol, 2 clients on 2 servers",
            load=Load(2),
            settings={"default_pool_size": "2"},
        ),
    ]


def _latency() -> list[Workload]:
    return [
        Latency(
            name="latency" if clients == 16 else f"latency-{clients}",
            title=f"half of PgBouncer's capacity, simple protocol, {clients} clients on 16 servers",
            load=Load(clients),
            settings=_ON_16,
            bars={"p99": 1.2} if clients == 16 else {},
            usual=clients == 16,
        )
        for clients in (1, 16, 64, 256)
    ]


def _prepared() -> list[Workload]:
    # An older PgBouncer is compared in session mode, the only one in which it can; see "shared" for ours.
    shared = (pgbouncer_release() or _KNOWS_STATEMENTS) >= _KNOWS_STATEMENTS
    return [
        Throughput(
            name="prepared",
            title="select-only, prepared statements, "
            + ("64 clients on 16 servers" if shared else "16 clients in session mode"),
            load=Load(64 if shared else 16, "prepared"),
            settings={
                **_ON_16,
                **({"max_prepared_statements": "200"} if shared else {"pool_mode": "session"}),
            },
            bars={"cpu": 1.15},
        ),
        Compared(
            name="shared",
            title="prepared statements, 64 clients on 8 servers, over the extended protocol without",
            load=Load(64, "prepared"),
            other=Load(64, "extended"),
            settings=_ON_8,
            limits={"over": 1.15},
        ),
    ]


def _encrypted() -> list[Workload]:
    return [
        Encrypted(
            name="tls",
            title="select-only, simple protocol over TLS, 64 clients on 16 servers",
            load=Load(64, environments=({"PGSSLMODE": "require"},)),
            settings={**_ON_16, **_TLS},
            bars={"cpu": 1.2},
        ),
        Encrypted(
            name="tls-rows",
            title="results of 5,000 rows over TLS, 16 clients on 8 servers",
            load=Load(16, script=_ROWS, environments=({"PGSSLMODE": "require"},)),
            settings={**_ON_8, **_TLS},
            usual=False,
        ),
    ]


def _large() -> list[Workload]:
    return [
        Throughput(
            name="rows",
            title="results of 5,000 rows, 16 clients on 8 servers",
            load=Load(16, script=_ROWS),
            settings=_ON_8,
            bars={"cpu": 0.35},
        ),
        Throughput(
            name="long-row",
            title="one row of 1 MB, 16 clients on 8 servers",
            load=Load(16, script=_LONG_ROW),
            settings=_ON_8,
            bars={"cpu": 0.5},
        ),
        Throughput(
            name="wide-rows",
            title="100 rows of 10 KB, 16 clients on 8 servers",
            load=Load(16, script=_WIDE_ROWS),
            settings=_ON_8,
            bars={"cpu": 0.35},
        ),
        *(
            Copy(
                name=f"copy-{way}",
                unit="COPY",
                title=f"COPY of 100 MB {way}, rows of 64 bytes",
                out=way == "out",
                bars={"cpu": 0.5},
            )
            for way in ("out", "in")
        ),
    ]


def _parameters() -> list[Workload]:
    return [
        Throughput(
            name="settings",
            title="32 clients of 8 application_name and TimeZone on 8 servers",
            load=Load(4, environments=_PROFILES),
            settings=_ON_8,
            bars={"cpu": 1.15},
        ),
        Throughput(
            name="sets",
            title="SET application_name and a query per transaction, 32 clients on 8 servers",
            load=Load(32, script=_SETS),
            settings=_ON_8,
        ),
    ]


def _logins() -> list[Workload]:
    return [
        Login(
            name="login",
            unit="login",
            title="logins one after the other, SCRAM-SHA-256",
            settings=_SCRAM,
            bars={"tps": 0.95, "cpu": 2.0},
        ),
        Login(
            name="login-plain",
            unit="login",
            title="logins one after the other, SCRAM-SHA-256 from a secret in clear text",
            settings={"auth_type": "scram-sha-256"},
            usual=False,
        ),
        Login(
            name="login-libpq",
            unit="login",
            title="logins one after the other, SCRAM-SHA-256, by libpq",
            settings=_SCRAM,
            libpq=True,
            usual=False,
        ),
    ]


def _idle() -> list[Workload]:
    return [
        Start(
            name="start",
            title="start, first login, memory without clients",
            limits={"first_login": 1.5, "resident": 60 * 1024**2},
        ),
        Idle(name="idle", title="5,000 idle clients", limits={"idle": 4096, "used": 4096}),
        Surrounded(
            name="surrounded",
            title="select-only, 16 clients on 16 servers beside 10,000 idle ones, over without them",
            load=Load(16),
            settings={**_ON_16, "max_client_conn": "12000"},
            limits={"over": 1.02},
            usual=False,
        ),
        Idle(
            name="idle-tls",
            title="2,000 idle clients over TLS",
            settings=_TLS,
            clients=2000,
            secure=True,
            limits={"idle": 60 * 1024, "used": 60 * 1024},
            usual=False,
        ),
    ]
