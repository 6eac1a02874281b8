"""The line that is logged each stats_period, in PgBouncer's words."""

from collections.abc import Sequence

from proxy.snapshot import StatsSnapshot, sum_of


def stats_line(stats: Sequence[StatsSnapshot]) -> str:
    """Averages over all databases for the last stats_period; times are in microseconds."""
    average = sum_of(stats).average
    return (
        f"stats: {average.xact_count} xacts/s, {average.query_count} queries/s, "
        f"{average.client_parse_count} client parses/s, {average.server_parse_count} server parses/s, "
        f"{average.bind_count} binds/s, {average.client_login_count} client logins/s, "
        f"in {average.client_bytes} B/s, out {average.server_bytes} B/s, "
        f"xact {average.xact_time} us, query {average.query_time} us, wait {average.wait_time} us"
    )
