import re

import pytest

from proxy import control
from proxy.admin.commands import Action, Identity, Remark, Task, resolve
from proxy.admin.parser import CommandError, parse
from proxy.admin.show import VIEWS, View

ADMIN = Identity(1, "alice", True, False, "10.0.0.7:5000")
STATS = Identity(2, "bob", False, True, "10.0.0.8:5000")
NOBODY = Identity(3, "eve", False, False, "10.0.0.9:5000")

ORDERS = {
    "RELOAD": control.Reload(),
    "PAUSE": control.Pause(),
    "PAUSE app": control.Pause("app"),
    "RESUME": control.Resume(),
    "RESUME app": control.Resume("app"),
    "DISABLE app": control.Disable("app"),
    "ENABLE app": control.Enable("app"),
    "DISABLE": control.Disable(),
    "RECONNECT": control.Reconnect(),
    "RECONNECT app": control.Reconnect("app"),
    "WAIT_CLOSE": control.WaitClose(),
    "WAIT_CLOSE app": control.WaitClose("app"),
    "KILL": control.Kill(),
    "KILL app": control.Kill("app"),
    "KILL_CLIENT 17": control.KillClient(17),
    "SUSPEND": control.Suspend(),
    "SHUTDOWN": control.Shutdown(control.ShutdownMode.IMMEDIATE),
    "SHUTDOWN WAIT_FOR_SERVERS": control.Shutdown(control.ShutdownMode.WAIT_FOR_SERVERS),
    "shutdown wait_for_clients": control.Shutdown(control.ShutdownMode.WAIT_FOR_CLIENTS),
    "SET query_timeout = 5": control.Set("query_timeout", "5"),
    "SET Query_Timeout = 5": control.Set("query_timeout", "5"),
}
FAKES = {
    "client_encoding": "UTF-8",
    "default_transaction_isolation": "read committed",
    "standard_conforming_strings": "on",
    "DateStyle": "ISO",
    "TimeZone": "GMT",
    "extra_float_digits": "2",
}


def ask(text: str, identity: Identity = ADMIN) -> Action:
    command = parse(text.encode())
    assert command is not None
    return resolve(command, identity)


@pytest.mark.parametrize("text", ORDERS)
def test_a_command_becomes_its_order(text: str) -> None:
    task = ask(text)
    assert isinstance(task, Task)
    assert (task.order, task.text) == (ORDERS[text], text)


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("pause app", "PAUSE"),
        ("kill_client 3", "KILL_CLIENT"),
        ("shutdown WAIT_FOR_CLIENTS", "SHUTDOWN"),
        ("SET Query_Timeout TO '5'", "SET Query_Timeout=5"),
    ],
)
def test_the_command_tag_is_the_verb_or_the_assignment(text: str, tag: str) -> None:
    task = ask(text)
    assert isinstance(task, Task)
    assert task.command_tag == tag


@pytest.mark.parametrize("text", ORDERS)
@pytest.mark.parametrize("identity", [STATS, NOBODY], ids=["stats", "nobody"])
def test_whoever_is_not_an_admin_gives_no_orders(text: str, identity: Identity) -> None:
    with pytest.raises(CommandError, match=r"^admin access needed$") as error:
        ask(text, identity)
    assert error.value.sqlstate == "42501"


def test_every_order_there_is_was_tried_without_rights() -> None:
    kinds = {
        kind for kind in vars(control).values() if isinstance(kind, type) and issubclass(kind, control.Order)
    }
    assert {type(order) for order in ORDERS.values()} == kinds - {control.Order, control.DatabaseOrder}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("verb", ["SHOW", "select"])
def test_admins_and_stats_users_may_look(name: str, verb: str) -> None:
    assert ask(f"{verb} {name.upper()}") is VIEWS[name]
    if VIEWS[name].admin_only:
        with pytest.raises(CommandError, match="admin access needed"):
            ask(f"{verb} {name}", STATS)
    else:
        assert ask(f"{verb} {name}", STATS) is VIEWS[name]


@pytest.mark.parametrize("text", ["SHOW HELP", "SHOW POOLS", "SHOW timezone", "SET timezone = x", "FROB"])
def test_whoever_has_no_rights_may_not_even_look(text: str) -> None:
    with pytest.raises(CommandError, match="admin access needed"):
        ask(text, NOBODY)


@pytest.mark.parametrize("name", FAKES)
def test_drivers_may_ask_and_set_what_they_always_ask_and_set(name: str) -> None:
    view = ask(f"SHOW {name}", STATS)
    assert isinstance(view, View)
    assert ask(f"SET {name} = 'whatever'", STATS) == Remark("SET ignored", None, "SET")
    assert view.columns[0].name == name.lower()


def test_help_names_everything() -> None:
    remark = ask("SHOW HELP", STATS)
    assert isinstance(remark, Remark)
    assert (remark.message, remark.command_tag) == ("Console usage", "SHOW")
    words = set(re.findall(r"\w+", remark.detail or ""))
    assert {name.upper() for name in VIEWS} <= words
    assert {text.split()[0].upper() for text in ORDERS} - {"SUSPEND"} <= words


@pytest.mark.parametrize(
    "text",
    [
        "FROB",
        "SHOW",
        "SHOW FROB",
        "SHOW FROB;",
        "SELECT 1",
        "BEGIN",
        "DISCARD ALL",
        "RELOAD app",
        "SUSPEND app",
        "SHUTDOWN NOW",
        "SET",
        "SET query_timeout",
    ],
)
@pytest.mark.parametrize("identity", [ADMIN, STATS], ids=["admin", "stats"])
def test_what_does_not_exist_is_an_invalid_command(text: str, identity: Identity) -> None:
    if identity is STATS and text.split()[0] in ("RELOAD", "SUSPEND", "SHUTDOWN"):
        expected = "admin access needed"
    else:
        expected = f"invalid command '{text}', use SHOW HELP;"
    with pytest.raises(CommandError) as error:
        ask(text, identity)
    assert error.value.message == expected


@pytest.mark.parametrize("argument", ["", " alice", " x17", " 1x", ' "-1"', ' "1 2"', ' "²"'])
def test_only_a_number_names_a_client(argument: str) -> None:
    with pytest.raises(CommandError, match=r"^invalid client pointer supplied$"):
        ask(f"KILL_CLIENT{argument}")
