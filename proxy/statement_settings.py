"""Texts that give a part of a transaction other settings, and then those back that it had.

Laws of this file:
- They are SELECTs without a row, and what they set ends with the transaction: neither the client nor its
  session sees anything of it, whatever the client itself has set or is about to set.
- What the settings are at that moment need not be known.
"""

from proxy.pool.parameters import Values, literal

_SET = b"pg_catalog.set_config(%b,%b,true)"
_NOW = b"pg_catalog.current_setting(%b)"
_UNLESS = b"CASE WHEN %b OPERATOR(pg_catalog.<>)%b THEN %b END"


def changed(names: tuple[bytes, ...], have: Values | None, want: Values, *, kept: bool = True) -> bytes:
    """Gives these settings the values wanted; empty if they have them. `have` is None where that is not
    known. `kept`: `restored` is to follow.
    """
    parts = []
    for at, value in _differing(have, want):
        name, target = literal(names[at]), literal(value)
        now = _NOW % name
        if kept:
            parts.append(_SET % (_place(at), now))
        parts.append(_UNLESS % (now, target, _SET % (name, target)))
    return _without_rows(parts)


def restored(names: tuple[bytes, ...], have: Values | None, want: Values) -> bytes:
    """Gives back what `changed` took."""
    parts = []
    for at, _ in _differing(have, want):
        name, before = literal(names[at]), _NOW % _place(at)
        parts.append(_UNLESS % (_NOW % name, before, _SET % (name, before)))
    return _without_rows(parts)


def _differing(have: Values | None, want: Values) -> list[tuple[int, bytes]]:
    return [
        (at, value)
        for at, value in enumerate(want)
        if value is not None and (have is None or have[at] != value)
    ]


def _place(at: int) -> bytes:
    """Where a value is kept within the transaction: a setting of our own."""
    return b"'howdah.kept_%d'" % at


def _without_rows(parts: list[bytes]) -> bytes:
    """All of them are evaluated, in this order."""
    return b"SELECT WHERE pg_catalog.concat(%b)IS NULL" % b",".join(parts) if parts else b""
