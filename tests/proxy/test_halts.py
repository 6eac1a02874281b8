from hypothesis import given
from hypothesis import strategies as st

from proxy.halts import Halted, Halts

NAMES = ("a", "b", "c")


def test_what_is_paused_as_a_whole_is_so_for_databases_nobody_has_named() -> None:
    halts = Halts()
    halts.pause(None, True)
    halts.pause("a", False)
    assert (halts.is_paused(None), halts.is_paused("a"), halts.is_paused("new")) == (True, False, True)
    assert halts.paused_databases() == []
    assert halts.present() == Halted(True, ("a",))
    halts.pause(None, False)
    assert not halts.is_paused("new")
    assert halts.present() == Halted()


def test_databases_are_paused_and_disabled_by_name() -> None:
    halts = Halts()
    halts.pause("b", True)
    halts.pause("a", True)
    halts.disable("c", True)
    halts.disable("a", True)
    halts.disable("a", False)
    assert halts.paused_databases() == ["a", "b"]
    assert halts.present() == Halted(False, ("a", "b"), ("c",))
    halts.forget(lambda name: name == "b")
    assert halts.present() == Halted(False, ("b",))


@given(st.lists(st.tuples(st.sampled_from([None, *NAMES]), st.booleans())))
def test_pauses_are_those_of_a_flag_for_each_database(orders: list[tuple[str | None, bool]]) -> None:
    halts, flags, every = Halts(), dict.fromkeys(NAMES, False), False
    for name, paused in orders:
        halts.pause(name, paused)
        if name is None:
            every, flags = paused, dict.fromkeys(NAMES, paused)
        else:
            flags[name] = paused
    assert {name: halts.is_paused(name) for name in NAMES} == flags
    assert halts.is_paused(None) == every
