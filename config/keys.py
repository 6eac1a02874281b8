"""Every key of the main section: name, type, default, whether a restart is needed, meaning. The one table.

From these fields come the readers, SHOW CONFIG, SET, the reload diff, the README's table and the JSON schema.
Names, types and defaults are PgBouncer's; the last group is ours. Times are seconds; 0 means off unless the
description says otherwise.
"""

import sys
from typing import ClassVar

from .databases import AuthDatabase
from .secret import OptionalSecret
from .section import ANYTHING, Section, fixed, live
from .types import (
    AuthMethods,
    AuthType,
    ChannelBinding,
    Count,
    DheParams,
    EventLoop,
    Flag,
    LogFormat,
    Mode,
    OptionalText,
    PoolMode,
    Port,
    Positive,
    Seconds,
    ServerProtocol,
    SslMode,
    SslNegotiation,
    SyslogFacility,
    Text,
    TlsVersions,
    UnknownParameters,
    Words,
    Workers,
)

AUTH_QUERY = (
    "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END "
    "FROM pg_authid WHERE rolname=$1 AND rolcanlogin"
)
# PgBouncer knows peer only in the rules of auth_hba_file, too.
OTHER_AUTH_TYPES = (AuthType.PEER, AuthType.LDAP, AuthType.PAM)


class Keys(Section):
    """The main section, `[pgbouncer]` in an ini and `[howdah]` in TOML (either name works in both)."""

    aliases: ClassVar[dict[str, str]] = {"service_name": "job_name"}

    # Where to listen
    listen_addr: Words = fixed((), "TCP addresses to listen on; `*` for all, empty for none")
    listen_port: Port = fixed(6432, "port of the TCP sockets, and number of the unix socket")
    listen_backlog: Count = fixed(128, "length of the kernel's queue of new connections")
    so_reuseport: Flag = fixed(False, "let several processes listen on one port")
    unix_socket_dir: Text = fixed(
        "/tmp", "directory of the unix socket; `@name` for abstract, empty for none"
    )
    unix_socket_group: Text = fixed("", "group that owns the unix socket")
    unix_socket_mode: Mode = fixed(0o777, "file mode of the unix socket, with a leading zero")
    tcp_defer_accept: Flag = live(
        sys.platform == "linux", "wake up only when a new client has sent something"
    )
    tcp_keepalive: Flag = live(True, "ask the kernel to probe silent connections")
    tcp_keepcnt: Count = live(0, "lost probes that end a connection; 0 is the system's choice")
    tcp_keepidle: Count = live(0, "seconds of silence before the first probe; 0 is the system's choice")
    tcp_keepintvl: Count = live(0, "seconds between probes; 0 is the system's choice")
    tcp_socket_buffer: Count = live(0, "bytes of kernel buffer per socket; 0 is the system's choice")
    tcp_user_timeout: Count = live(
        0, "milliseconds that sent data may stay unacknowledged; 0 is the system's choice"
    )

    # The process
    conffile: OptionalText = live(None, "the file that the next RELOAD reads")
    job_name: Text = fixed(
        "pgbouncer", "name of the service, also written `service_name`; accepted, has no effect"
    )
    pidfile: Text = fixed("", "file for the process id; needed with `-d`")
    user: OptionalText = fixed(None, "system user to become when started as root")
    suspend_timeout: Seconds = live(10.0, "accepted, has no effect: there is no SUSPEND")
    pkt_buf: Count = fixed(4096, "bytes per buffer of PgBouncer; accepted, ours grow by need")
    sbuf_loopcnt: Count = live(5, "packets handled in one turn of PgBouncer; accepted, has no effect")
    max_packet_size: Count = live(2147483647, "largest message in bytes that is let through")

    # Log and statistics
    logfile: Text = live("", "log file, opened again on RELOAD; empty for stderr only")
    log_connections: Flag = live(True, "log each login")
    log_disconnections: Flag = live(True, "log each disconnect and its reason")
    log_pooler_errors: Flag = live(True, "log each error sent to a client")
    log_stats: Flag = live(True, "write a line of statistics every `stats_period`")
    stats_period: Positive = live(60, "seconds over which averages are taken")
    syslog: Flag = live(False, "log to syslog")
    syslog_facility: SyslogFacility = live(SyslogFacility.DAEMON, "facility of syslog messages")
    syslog_ident: Text = live("pgbouncer", "name in syslog messages")
    verbose: Count = live(0, "how talkative the log is, 0 to 3")

    # Who may come in
    auth_type: AuthType = live(AuthType.MD5, "how clients prove who they are", refused=OTHER_AUTH_TYPES)
    auth_file: OptionalText = live(None, 'file with a line `"user" "secret"` for each user')
    auth_user: OptionalText = live(
        None, "role that asks `auth_query` for users whom `auth_file` does not name; unset: nobody asks"
    )
    auth_query: Text = live(AUTH_QUERY, "query that fetches a user's name and secret; `$1` is the name")
    auth_dbname: AuthDatabase = live(
        None, "database that `auth_query` runs in; unset: the one the client asks for"
    )
    auth_hba_file: Text = live("", "rules for `auth_type = hba`")
    auth_ident_file: OptionalText = live(None, "map of user names for `auth_hba_file`")
    auth_ldap_options: OptionalText = live(None, "options for `auth_type = ldap`", refused=ANYTHING)
    scram_iterations: Positive = live(4096, "iterations of SCRAM secrets made from plain passwords")
    admin_users: Words = live((), "users allowed every console command")
    stats_users: Words = live((), "users allowed SHOW on the console")
    login_notify_message: Text = live("", "NOTICE sent after each login", refused=ANYTHING)

    # Pools and limits
    pool_mode: PoolMode = live(PoolMode.SESSION, "when a server goes back to its pool")
    default_pool_size: Count = live(20, "servers per pool; 0 is unlimited")
    min_pool_size: Count = live(0, "servers a pool keeps open, at most its size")
    reserve_pool_size: Count = live(0, "further servers for a pool whose clients wait too long")
    reserve_pool_timeout: Seconds = live(
        5.0, "how long a client waits before the reserve is used; 0 is never"
    )
    max_client_conn: Count = live(100, "clients in total")
    max_db_connections: Count = live(0, "servers per database, over all users; 0 is unlimited")
    max_db_client_connections: Count = live(0, "clients per database; 0 is unlimited")
    max_user_connections: Count = live(0, "servers per user, over all databases; 0 is unlimited")
    max_user_client_connections: Count = live(0, "clients per user; 0 is unlimited")
    max_prepared_statements: Count = live(
        200,
        "named statements kept prepared per server in transaction and statement mode; 0 passes them through "
        "untouched (new clients)",
    )
    server_round_robin: Flag = live(False, "lend the server that has been idle longest, not the last used")
    autodb_idle_timeout: Seconds = live(3600.0, "forget an unused database that `*` made")
    pool_idle_timeout: Seconds = live(0.0, "forget a pool that has been empty this long", refused=ANYTHING)

    # What clients may ask for
    application_name_add_host: Flag = live(False, "add the client's address to its application_name")
    ignore_startup_parameters: Words = live(
        ("extra_float_digits",),
        "startup parameters that are accepted and dropped (PgBouncer's default is none)",
    )
    track_extra_parameters: Words = fixed(("IntervalStyle",), "further parameters kept per client")
    disable_pqexec: Flag = fixed(False, "refuse the simple query protocol")

    # Servers
    server_reset_query: Text = live("DISCARD ALL", "run when a session ends; empty for none")
    server_reset_query_always: Flag = live(False, "run `server_reset_query` in every pool mode")
    server_check_delay: Seconds = live(30.0, "idle time after which a server is checked before use")
    server_check_query: Text = live("<empty>", "the check; `<empty>` is the empty query, nothing means none")
    server_fast_close: Flag = live(False, "in session mode, close outdated servers between transactions")
    server_lifetime: Seconds = live(3600.0, "close servers older than this; 0 means used once")
    server_idle_timeout: Seconds = live(600.0, "close servers idle this long; 0 is never")
    server_connect_timeout: Seconds = live(15.0, "time for connecting and logging in to a server")
    server_login_retry: Seconds = live(15.0, "pause after a server refused a login")
    dns_max_ttl: Seconds = live(15.0, "how long an address is remembered")
    dns_nxdomain_ttl: Seconds = live(15.0, "how long it is remembered that a name has no address")
    dns_zone_check_period: Seconds = live(0.0, "watch the serial numbers of DNS zones", refused=ANYTHING)
    resolv_conf: Text = fixed("", "resolver settings other than the system's", refused=ANYTHING)

    # Timeouts
    query_timeout: Seconds = live(0.0, "end clients whose query runs longer")
    query_wait_timeout: Seconds = live(120.0, "end clients that get no server in time; 0 is never")
    query_wait_notify: Seconds = live(5.0, "tell a client by NOTICE that it waits")
    idle_transaction_timeout: Seconds = live(0.0, "end clients idle in a transaction")
    transaction_timeout: Seconds = live(0.0, "end clients whose transaction lasts longer")
    client_idle_timeout: Seconds = live(0.0, "end clients that ask for nothing")
    client_login_timeout: Seconds = live(60.0, "time for a client to log in")
    cancel_wait_timeout: Seconds = live(10.0, "time for a cancel request to be delivered")

    # Encryption
    client_tls_sslmode: SslMode = live(
        SslMode.DISABLE, "whether clients may or must encrypt, and from `verify-ca` on show a certificate"
    )
    client_tls_ca_file: Text = live("", "authorities for clients' certificates")
    client_tls_cert_file: Text = live(
        "", "certificate shown to clients, and those between it and its authority"
    )
    client_tls_key_file: Text = live("", "key of `client_tls_cert_file`")
    client_tls_protocols: TlsVersions = live(("secure",), "TLS versions for clients; `secure`: 1.2 and 1.3")
    client_tls_ciphers: Text = live("default", "ciphers up to TLS 1.2 for clients")
    client_tls13_ciphers: OptionalText = live(None, "TLS 1.3 suites for clients (from Python 3.15)")
    client_tls_dheparams: DheParams = live(
        DheParams.AUTO, "Diffie-Hellman without curves for clients of TLS 1.2"
    )
    client_tls_ecdhcurve: Text = live("auto", "elliptic curve for clients: auto, none or a name")
    server_tls_sslmode: SslMode = live(SslMode.PREFER, "whether servers must encrypt, and prove who they are")
    server_tls_ca_file: Text = live("", "authorities for servers' certificates; empty: the system's")
    server_tls_cert_file: Text = live("", "certificate shown to servers, if they ask for one")
    server_tls_key_file: Text = live("", "key of `server_tls_cert_file`")
    server_tls_protocols: TlsVersions = live(("secure",), "TLS versions to servers")
    server_tls_ciphers: Text = live("default", "ciphers up to TLS 1.2 to servers")
    server_tls13_ciphers: OptionalText = live(None, "TLS 1.3 suites to servers")

    # Several poolers
    peer_id: Count = live(0, "number of this process among its peers; 0 is none", refused=ANYTHING)

    # Ours
    auth_query_cache: Seconds = live(
        0.0, "how long an answer of `auth_query` is believed; 0: ask at each login, as PgBouncer does"
    )
    auth_query_timeout: Seconds = live(10.0, "time for an answer of `auth_query`")
    auth_query_unknown_rate: Count = live(
        100,
        "unknown names, and questions that fail, per second that one address (the unix socket is one) may "
        "have `auth_query` asked before all have to wait there who have not logged in from there before; 0 "
        "is unlimited",
    )
    audit_release: Flag = live(
        False,
        "for debugging: report what sessions leave behind on their servers (role, search_path, temporary "
        "tables, locks, ...); costs one query more per release",
    )
    client_write_timeout: Seconds = live(0.0, "end clients that do not read what is sent to them")
    event_loop: EventLoop = fixed(EventLoop.UVLOOP, "what turns the daemon")
    expand_env: Flag = live(
        False, "in an ini: replace `${NAME}` and read `file:` passwords, as TOML always does"
    )
    log_format: LogFormat = live(LogFormat.TEXT, "PgBouncer's log lines, or one JSON object per line")
    mock_authentication_nonce: OptionalSecret = live(
        None,
        "secret from which salts are made for users who are unknown, or have a plain password; unset: from "
        "the secrets of `auth_file`",
    )
    metrics_addr: Text = fixed("127.0.0.1", "address of /metrics, /livez and /readyz; empty for none")
    metrics_port: Port = fixed(9127, "port of /metrics, /livez and /readyz")
    max_client_prepared_statements: Count = live(
        5000, "prepared statements one client may have at a time; 0 is unlimited"
    )
    max_client_prepared_bytes: Count = live(
        8 << 20,
        "bytes of text, and 512 for each, that one client's prepared statements may take; 0 is unlimited",
    )
    max_shared_statements: Count = live(
        50_000, "texts of prepared statements kept for all clients; 0 is unlimited"
    )
    max_shared_statement_bytes: Count = live(
        64 << 20, "bytes of text, and 512 for each, that are kept of them; 0 is unlimited"
    )
    max_server_prepared_bytes: Count = live(
        16 << 20, "bytes of text, and 512 for each, kept prepared per server; 0 is unlimited"
    )
    server_close_timeout: Seconds = live(
        10.0, "how long to wait for a server to hang up before giving up on it"
    )
    server_auth_methods: AuthMethods = live(
        ("scram-sha-256", "md5", "none"),
        "what servers may ask of us: scram-sha-256, md5, password (only under TLS or on a unix socket), "
        "none (trust, or a certificate)",
    )
    server_channel_binding: ChannelBinding = live(
        ChannelBinding.PREFER,
        "whether SCRAM logins at servers are tied to their TLS certificate (SCRAM-SHA-256-PLUS)",
    )
    server_tls_sslnegotiation: SslNegotiation = live(
        SslNegotiation.POSTGRES,
        "how TLS with servers begins: asked for first, or `direct` (PostgreSQL 17; needs `require` or more)",
    )
    server_protocol: ServerProtocol = live(ServerProtocol.V3_0, "newest protocol version asked of servers")
    unknown_startup_parameters: UnknownParameters = live(
        UnknownParameters.REFUSE,
        "untracked startup parameters end the login, or are set on each server lent to the client "
        "(in TOML the default is `apply`)",
    )
    worker_timeout: Seconds = live(
        10.0, "replace a worker whose event loop has not turned for this long; 0 is never"
    )
    workers: Workers = fixed(1, "processes that share the clients, `auto` is one for each processor")
