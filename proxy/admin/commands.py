"""A parsed command -> what is to be done: show a view, say a word, or carry out an order.

Law of this file: what a user may do is decided here and nowhere else, before anything happens, and is refused
unless it was granted: `stats_users` may look, only `admin_users` may touch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from protocol import sqlstate as codes
from proxy import control
from proxy.admin import journal
from proxy.admin.parser import Command, CommandError, SetCommand, invalid_command
from proxy.admin.show import VIEWS, View, fake_parameter


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is at the console, as the login found out. `client` is the id in SHOW CLIENTS."""

    client: int
    user: str
    is_admin: bool
    is_stats: bool
    address: str
    """`host:port`, or what the log says for a unix socket."""


@dataclass(frozen=True, slots=True)
class Remark:
    """A notice and nothing else."""

    message: str
    detail: str | None
    command_tag: str


@dataclass(frozen=True, slots=True)
class Task:
    """An order, the command tag of its success, and the text it came from as the log may have it."""

    order: control.Order
    command_tag: str
    text: str


Action = View | Remark | Task

# For drivers that set or ask these whomever they talk to.
_FAKES: Final[Mapping[str, str]] = {
    "client_encoding": "UTF-8",
    "default_transaction_isolation": "read committed",
    "standard_conforming_strings": "on",
    "datestyle": "ISO",
    "timezone": "GMT",
    "extra_float_digits": "2",
}

_SHOWABLE: Final = ["HELP", *(name.upper() for name in VIEWS)]
_USAGE: Final = (
    *(f"SHOW {'|'.join(_SHOWABLE[at : at + 6])}" for at in range(0, len(_SHOWABLE), 6)),
    "SET key = value",
    "RELOAD",
    "PAUSE [<db>]",
    "RESUME [<db>]",
    "DISABLE <db>",
    "ENABLE <db>",
    "RECONNECT [<db>]",
    "WAIT_CLOSE [<db>]",
    "KILL [<db>]",
    "KILL_CLIENT <client_id>",
    "SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]",
)
_HELP: Final = Remark("Console usage", "".join(f"\n\t{line}" for line in _USAGE), "SHOW")
_SET_IGNORED: Final = Remark("SET ignored", None, "SET")


def resolve(command: Command | SetCommand, identity: Identity) -> Action:
    """Return what the command asks for. Raises CommandError if it is unknown, wrong or not allowed."""
    if not (identity.is_admin or identity.is_stats):
        raise _admin_needed()
    if isinstance(command, SetCommand):
        return _set(command, identity)
    if command.verb in ("show", "select"):
        return _show(command, identity)
    make_order = _ORDERS.get(command.verb)
    if make_order is None:
        raise invalid_command(command.text)
    if not identity.is_admin:
        raise _admin_needed()
    return Task(make_order(command), command.verb.upper(), command.text)


def _admin_needed() -> CommandError:
    return CommandError("admin access needed", codes.INSUFFICIENT_PRIVILEGE)


def _set(command: SetCommand, identity: Identity) -> Action:
    if command.key.lower() in _FAKES:
        return _SET_IGNORED
    if not identity.is_admin:
        raise _admin_needed()
    order = control.Set(command.key.lower(), command.value)
    return Task(order, f"SET {command.key}={command.value}", journal.understood(command))


def _show(command: Command, identity: Identity) -> Action:
    name = (command.argument or "").lower()
    if name == "help":
        return _HELP
    if name in _FAKES:
        return fake_parameter(name, _FAKES[name])
    view = VIEWS.get(name)
    if view is None:
        raise invalid_command(command.text)
    if view.admin_only and not identity.is_admin:
        raise _admin_needed()
    return view


def _no_argument(order: control.Order) -> Callable[[Command], control.Order]:
    def make(command: Command) -> control.Order:
        if command.argument is not None:
            raise invalid_command(command.text)
        return order

    return make


def _on_database(order: type[control.DatabaseOrder]) -> Callable[[Command], control.Order]:
    return lambda command: order(command.argument)


def _kill_client(command: Command) -> control.Order:
    number = command.argument or ""
    if not (number.isascii() and number.isdecimal()):
        raise CommandError("invalid client pointer supplied")
    return control.KillClient(int(number))


def _shutdown(command: Command) -> control.Order:
    try:
        return control.Shutdown(control.ShutdownMode((command.argument or "").upper()))
    except ValueError:
        raise invalid_command(command.text) from None


_ORDERS: Final[Mapping[str, Callable[[Command], control.Order]]] = {
    "disable": _on_database(control.Disable),
    "enable": _on_database(control.Enable),
    "kill": _on_database(control.Kill),
    "kill_client": _kill_client,
    "pause": _on_database(control.Pause),
    "reconnect": _on_database(control.Reconnect),
    "reload": _no_argument(control.Reload()),
    "resume": _on_database(control.Resume),
    "shutdown": _shutdown,
    "suspend": _no_argument(control.Suspend()),
    "wait_close": _on_database(control.WaitClose),
}
