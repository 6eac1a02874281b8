import pytest

from config.settings import Settings
from config.types import UnknownParameters
from protocol.errors import ProtocolError
from protocol.startup import Startup
from proxy.errors import PoolerError
from proxy.pool.parameters import Tracked
from proxy.wishes import BadStartup, Wishes, read_wishes

VERSION = 196608


def read(parameters: dict[bytes, bytes], **settings: object) -> Wishes:
    known = Settings.model_validate(settings)
    startup = Startup(VERSION, {b"user": b"alice", **parameters})
    return read_wishes(startup, known, Tracked(known.track_extra_parameters))


def refusal(parameters: dict[bytes, bytes], **settings: object) -> PoolerError:
    with pytest.raises(BadStartup) as error:
        read(parameters, **settings)
    return error.value


def test_the_database_is_the_users_unless_it_is_named() -> None:
    assert read({}).database == "alice"
    assert read({b"database": b""}).database == "alice"
    wishes = read({b"database": b"app"})
    assert (wishes.user, wishes.database) == ("alice", "app")


@pytest.mark.parametrize("user", [None, b""])
def test_a_packet_without_a_user_is_refused(user: bytes | None) -> None:
    parameters = {b"database": b"app"} if user is None else {b"user": user}
    with pytest.raises(BadStartup, match="no username supplied") as error:
        read_wishes(Startup(VERSION, parameters), Settings(), Tracked())
    assert error.value.sqlstate == "28000"


def test_names_have_pgbouncers_limits() -> None:
    assert read({b"user": b"u" * 127, b"database": b"d" * 63}).user == "u" * 127
    error = refusal({b"user": b"u" * 128, b"database": b"d"})
    assert (error.message, error.sqlstate) == ("username too long", "28000")
    assert refusal({b"database": b"d" * 64}).sqlstate == "3D000"


def test_names_that_are_not_utf8_are_names() -> None:
    wishes = read({b"user": b"\xff\xfe", b"database": b"\xc3"})
    assert wishes.user.encode("utf-8", "surrogateescape") == b"\xff\xfe"


@pytest.mark.parametrize("value", [b"true", b"on", b"yes", b"1", b"database", b"x"])
def test_replication_is_refused(value: bytes) -> None:
    error = refusal({b"replication": value})
    assert error.sqlstate == "0A000"
    assert "replication" in error.message


@pytest.mark.parametrize("value", [b"false", b"off", b"no", b"0", b"", b"FALSE", b"Off"])
def test_no_replication_may_be_said_aloud(value: bytes) -> None:
    assert list(read({b"replication": value}).settings()) == []


@pytest.mark.parametrize("name", [b"client_encoding", b"DateStyle", b"TIMEZONE", b"application_name"])
def test_tracked_parameters_are_kept_under_their_lower_case_name(name: bytes) -> None:
    assert read({name: b"x"}).tracked == {name.lower(): b"x"}


def test_extra_tracked_parameters_are_tracked() -> None:
    assert read({b"IntervalStyle": b"iso"}, track_extra_parameters="IntervalStyle").tracked == {
        b"intervalstyle": b"iso"
    }


def test_an_unknown_parameter_is_refused_by_name_as_pgbouncer_does() -> None:
    error = refusal({b"geqo": b"off"})
    assert error.message == "unsupported startup parameter: geqo"
    assert error.sqlstate == "42704"
    assert error.severity == "FATAL"


def test_an_unknown_parameter_in_options_is_refused_by_name() -> None:
    assert refusal({b"options": b"-c geqo=off"}).message == "unsupported startup parameter in options: geqo"


def test_an_unknown_name_that_is_no_text_is_shown_escaped() -> None:
    assert refusal({b"ge\xffqo": b"off"}).message == r"unsupported startup parameter: ge\xffqo"


def test_ignored_parameters_are_dropped_in_any_case() -> None:
    wishes = read(
        {b"extra_float_digits": b"3", b"Geqo": b"on"}, ignore_startup_parameters="geqo, extra_float_digits"
    )
    assert list(wishes.settings()) == []
    wishes = read({b"options": b"-c extra_float_digits=3"})
    assert list(wishes.settings()) == []


def test_options_as_a_whole_may_be_ignored() -> None:
    wishes = read({b"options": b"-z nonsense"}, ignore_startup_parameters="options")
    assert list(wishes.settings()) == []


@pytest.mark.parametrize("options", [b"-z", b"-c", b"-c timezone", b"word"])
def test_malformed_options_are_a_protocol_error(options: bytes) -> None:
    with pytest.raises(ProtocolError):
        read({b"options": options})


def test_options_are_tracked_as_parameters_are() -> None:
    options = rb"-c DateStyle=ISO,\ DMY --timezone=UTC -capplication_name=a\\b"
    assert read({b"options": options}).tracked == {
        b"datestyle": b"ISO, DMY",
        b"timezone": b"UTC",
        b"application_name": rb"a\b",
    }


def test_a_parameter_of_its_own_beats_options() -> None:
    """As in PostgreSQL, which reads the options first."""
    assert read({b"TimeZone": b"UTC", b"options": b"-c timezone=GMT"}).tracked == {b"timezone": b"UTC"}


def test_the_last_of_equal_options_wins() -> None:
    assert read({b"options": b"-c timezone=GMT -c TimeZone=UTC"}).tracked == {b"timezone": b"UTC"}


def test_with_apply_unknown_parameters_are_kept_in_their_order() -> None:
    wishes = read(
        {b"Search_Path": b"x", b"options": b"-c statement_timeout=5s -c app.tenant=7"},
        unknown_startup_parameters=UnknownParameters.APPLY,
    )
    assert wishes.applied == ((b"statement_timeout", b"5s"), (b"app.tenant", b"7"), (b"search_path", b"x"))


def test_nothing_is_remembered_of_wishes_before_the_login() -> None:
    tracked = Tracked()
    settings = Settings(unknown_startup_parameters=UnknownParameters.APPLY)
    packets = [Startup(VERSION, {b"user": b"u", b"geqo": b"off"}) for _ in range(2)]
    one, two = (read_wishes(packet, settings, tracked).applied for packet in packets)
    assert one == two
    assert tracked.intern_applied(one) is one


def test_with_apply_ignored_parameters_are_dropped_all_the_same() -> None:
    wishes = read({b"extra_float_digits": b"3"}, unknown_startup_parameters=UnknownParameters.APPLY)
    assert wishes.applied == ()


def test_protocol_extensions_are_listed_and_never_refused() -> None:
    wishes = read({b"_pq_.x": b"1", b"_pq_.Y": b""})
    assert wishes.extensions == (b"_pq_.x", b"_pq_.Y")
    assert list(wishes.settings()) == []


def test_settings_names_everything_asked_for() -> None:
    wishes = Wishes("u", "d", {b"timezone": b"UTC"}, ((b"geqo", b"off"),))
    assert list(wishes.settings()) == [(b"timezone", b"UTC"), (b"geqo", b"off")]


def test_a_server_of_its_own_is_told_all_but_the_application_name() -> None:
    wishes = Wishes("u", "d", {b"application_name": b"psql", b"timezone": b"UTC"}, ((b"geqo", b"off"),))
    assert wishes.boot() == ((b"timezone", b"UTC"), (b"geqo", b"off"))


@pytest.mark.parametrize("name", [b"app.tenant", b"_x", b"a$1", b"a" * 63, b"App.Tenant"])
def test_with_apply_names_that_reset_can_say_are_taken(name: bytes) -> None:
    wishes = read({name: b"7"}, unknown_startup_parameters=UnknownParameters.APPLY)
    assert wishes.applied == ((name.lower(), b"7"),)


@pytest.mark.parametrize(
    "name", [b"1a", b"a b", b'a"b', b"a.", b".a", b"a" * 64, b"gr\xc3\xbcn", b"a;b", b"a'b"]
)
def test_with_apply_other_names_are_refused(name: bytes) -> None:
    error = refusal({name: b"7"}, unknown_startup_parameters=UnknownParameters.APPLY)
    assert error.sqlstate == "42602"
    assert error.message.startswith("invalid configuration parameter name ")


def test_the_name_of_the_application_may_tell_where_the_client_is() -> None:
    wishes = Wishes(
        "alice", "app", {b"application_name": b"shop", b"timezone": b"UTC"}, extensions=(b"_pq_.x",)
    )
    assert wishes.with_host("10.0.0.7:5000") == Wishes(
        "alice",
        "app",
        {b"application_name": b"shop - 10.0.0.7:5000", b"timezone": b"UTC"},
        extensions=(b"_pq_.x",),
    )
    assert Wishes("alice", "app").with_host("unix").tracked == {b"application_name": b"app - unix"}


def test_a_line_of_the_log_says_who_wants_where_on_one_line() -> None:
    assert str(Wishes("al\nice", "app")) == r"db=app user=al\x0aice"
