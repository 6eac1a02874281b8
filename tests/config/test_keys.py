"""The table of keys is PgBouncer's, but for the ones listed as ours."""

import sys

import pytest
from pydantic import ValidationError

from config.keys import Keys
from config.section import extra_of, kind_of, needs_restart, show
from config.settings import Settings
from config.types import SslMode

PGBOUNCER = """
admin_users |  | yes
application_name_add_host | 0 | yes
auth_dbname | NULL | yes
auth_file | NULL | yes
auth_hba_file |  | yes
auth_ident_file | NULL | yes
auth_ldap_options | NULL | yes
auth_query | AUTH_QUERY | yes
auth_type | md5 | yes
auth_user | NULL | yes
autodb_idle_timeout | 3600 | yes
cancel_wait_timeout | 10 | yes
client_idle_timeout | 0 | yes
client_login_timeout | 60 | yes
client_tls13_ciphers | NULL | yes
client_tls_ca_file |  | yes
client_tls_cert_file |  | yes
client_tls_ciphers | default | yes
client_tls_dheparams | auto | yes
client_tls_ecdhcurve | auto | yes
client_tls_key_file |  | yes
client_tls_protocols | secure | yes
client_tls_sslmode | disable | yes
conffile | NULL | yes
default_pool_size | 20 | yes
disable_pqexec | 0 | no
dns_max_ttl | 15 | yes
dns_nxdomain_ttl | 15 | yes
dns_zone_check_period | 0 | yes
idle_transaction_timeout | 0 | yes
ignore_startup_parameters |  | yes
job_name | pgbouncer | no
listen_addr |  | no
listen_backlog | 128 | no
listen_port | 6432 | no
log_connections | 1 | yes
log_disconnections | 1 | yes
log_pooler_errors | 1 | yes
log_stats | 1 | yes
logfile |  | yes
login_notify_message |  | yes
max_client_conn | 100 | yes
max_db_client_connections | 0 | yes
max_db_connections | 0 | yes
max_packet_size | 2147483647 | yes
max_prepared_statements | 200 | yes
max_user_client_connections | 0 | yes
max_user_connections | 0 | yes
min_pool_size | 0 | yes
peer_id | 0 | yes
pidfile |  | no
pkt_buf | 4096 | no
pool_idle_timeout | 0 | yes
pool_mode | session | yes
query_timeout | 0 | yes
query_wait_notify | 5 | yes
query_wait_timeout | 120 | yes
reserve_pool_size | 0 | yes
reserve_pool_timeout | 5 | yes
resolv_conf |  | no
sbuf_loopcnt | 5 | yes
scram_iterations | 4096 | yes
server_check_delay | 30 | yes
server_check_query | <empty> | yes
server_connect_timeout | 15 | yes
server_fast_close | 0 | yes
server_idle_timeout | 600 | yes
server_lifetime | 3600 | yes
server_login_retry | 15 | yes
server_reset_query | DISCARD ALL | yes
server_reset_query_always | 0 | yes
server_round_robin | 0 | yes
server_tls13_ciphers | NULL | yes
server_tls_ca_file |  | yes
server_tls_cert_file |  | yes
server_tls_ciphers | default | yes
server_tls_key_file |  | yes
server_tls_protocols | secure | yes
server_tls_sslmode | prefer | yes
so_reuseport | 0 | no
stats_period | 60 | yes
stats_users |  | yes
suspend_timeout | 10 | yes
syslog | 0 | yes
syslog_facility | daemon | yes
syslog_ident | pgbouncer | yes
tcp_defer_accept | 1 | yes
tcp_keepalive | 1 | yes
tcp_keepcnt | 0 | yes
tcp_keepidle | 0 | yes
tcp_keepintvl | 0 | yes
tcp_socket_buffer | 0 | yes
tcp_user_timeout | 0 | yes
track_extra_parameters | IntervalStyle | no
transaction_timeout | 0 | yes
unix_socket_dir | /tmp | no
unix_socket_group |  | no
unix_socket_mode | 0777 | no
user | NULL | no
verbose | 0 | yes
"""
"""Key, default (NULL: unset), changeable while running; PgBouncer 1.25 and what came after it, on Linux."""

OURS = """
auth_query_cache | 0 | yes
auth_query_timeout | 10 | yes
auth_query_unknown_rate | 100 | yes
audit_release | 0 | yes
client_write_timeout | 0 | yes
event_loop | uvloop | no
expand_env | 0 | yes
log_format | text | yes
metrics_addr | 127.0.0.1 | no
mock_authentication_nonce | NULL | yes
metrics_port | 9127 | no
server_close_timeout | 10 | yes
max_client_prepared_statements | 5000 | yes
max_client_prepared_bytes | 8388608 | yes
max_shared_statements | 50000 | yes
max_shared_statement_bytes | 67108864 | yes
max_server_prepared_bytes | 16777216 | yes
server_auth_methods | scram-sha-256, md5, none | yes
server_channel_binding | prefer | yes
server_tls_sslnegotiation | postgres | yes
server_protocol | 3.0 | yes
unknown_startup_parameters | refuse | yes
worker_timeout | 10 | yes
workers | 1 | no
"""

DIFFERENT_DEFAULT = {"ignore_startup_parameters": "extra_float_digits"}


AUTH_QUERY = (
    "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END "
    "FROM pg_authid WHERE rolname=$1 AND rolcanlogin"
)


def table(text: str) -> dict[str, tuple[str | None, str]]:
    lines = [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]
    return {key: (None if default == "NULL" else default, live) for key, default, live in lines}


def test_keys_defaults_and_changeability_are_pgbouncers() -> None:
    expected = table(PGBOUNCER.replace("AUTH_QUERY", AUTH_QUERY)) | table(OURS)
    if sys.platform != "linux":
        expected["tcp_defer_accept"] = ("0", "yes")
    for key, default in DIFFERENT_DEFAULT.items():
        expected[key] = (default, expected[key][1])
    fields = Keys.model_fields
    found = {
        key: (show(field, field.default), "no" if needs_restart(field) else "yes")
        for key, field in fields.items()
    }
    assert found == expected


def test_every_key_has_a_description_and_a_kind() -> None:
    for key, field in Keys.model_fields.items():
        assert field.description, key
        assert kind_of(field).name, key


def test_every_default_passes_its_own_checks() -> None:
    values = {key: field.default for key, field in Keys.model_fields.items()}
    assert Settings.model_validate(values) == Settings()


def test_every_shown_default_reads_back_as_the_default() -> None:
    shown = {key: value for key, value, _, _ in Settings().rows() if value is not None}
    assert Settings.model_validate(shown) == Settings()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("auth_type", "LDAP"),
        ("auth_type", "pam"),
        ("auth_type", "peer"),
        ("auth_ldap_options", "ldapurl=x"),
        ("peer_id", "1"),
        ("resolv_conf", "/etc/other"),
        ("dns_zone_check_period", "1"),
        ("login_notify_message", "hello"),
        ("pool_idle_timeout", "5"),
        ("peers", {"1": {"host": "a"}}),
    ],
)
def test_what_is_not_supported_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match="is not supported by this version") as caught:
        Settings.model_validate({key: value})
    assert [error["loc"] for error in caught.value.errors()] == [(key,)]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("auth_type", name) for name in ("any", "trust", "plain", "md5", "scram-sha-256", "cert", "hba")),
        *(("client_tls_sslmode", mode) for mode in SslMode),
        *(("server_tls_sslmode", mode) for mode in SslMode),
        ("client_tls_cert_file", "/x.crt"),
        ("server_tls_protocols", "tlsv1.2, tlsv1.3"),
        ("syslog_facility", "local7"),
        ("peer_id", "0"),
        ("auth_hba_file", ""),
        ("auth_hba_file", "hba.conf"),
        ("auth_ident_file", "ident.conf"),
        ("auth_user", ""),
        ("auth_user", "postgres"),
        ("auth_query", "SELECT 1"),
        ("auth_dbname", "postgres"),
    ],
)
def test_what_is_supported_is_accepted(key: str, value: str) -> None:
    assert key in Settings.model_validate({key: value}).model_fields_set


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("listen_port", 65536),
        ("listen_port", -1),
        ("default_pool_size", -1),
        ("stats_period", 0),
        ("scram_iterations", 0),
        ("unix_socket_mode", 0o1000),
        ("query_timeout", -0.5),
        ("query_timeout", 1e10),
        ("query_timeout", "1e999"),
        ("query_timeout", float("nan")),
        ("max_client_conn", 2**31),
        ("syslog_facility", "kern"),
        ("server_tls_protocols", "tlsv9"),
        ("pidfile", "a\0b"),
        ("admin_users", ["a\0b"]),
        ("auth_file", "a\0b"),
        ("auth_dbname", "pgbouncer"),
        ("auth_dbname", "howdah"),
        ("job_name", 5),
    ],
)
def test_value_out_of_range_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({key: value})
    assert {error["loc"][0] for error in caught.value.errors()} == {key}


def test_not_supported_is_data_beside_the_field() -> None:
    assert extra_of(Keys.model_fields["auth_ldap_options"])["not_supported"] == "anything"
    assert extra_of(Keys.model_fields["auth_type"])["not_supported"] == ["peer", "ldap", "pam"]
    assert "not_supported" not in extra_of(Keys.model_fields["pool_mode"])
