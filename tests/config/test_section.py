"""What a field knows about itself, and what every model of settings refuses."""

from typing import Annotated

import pytest
from pydantic import ValidationError

from config.section import ANYTHING, Section, fixed, kind_of, live, needs_restart, show
from config.types import Count, InheritedSeconds, Kind, PoolMode, Text, Words


class Sample(Section):
    number: Count = live(5, "a number", refused=("7", "8"))
    words: Words = fixed(("a",), "some words")
    mode: PoolMode | None = live(None, "a mode", refused=(PoolMode.STATEMENT,))
    inner: Annotated[int, Kind("inside")] | None = live(None, "a kind inside of a union")
    never: Text = fixed("", "nothing but the default", refused=ANYTHING)
    time: InheritedSeconds = live(None, "seconds or unset")
    plain: float = live(1.5, "a type without a kind")


FIELDS = Sample.model_fields


def test_live_and_fixed_differ_in_needs_restart() -> None:
    assert not needs_restart(FIELDS["number"])
    assert needs_restart(FIELDS["words"])


def test_kind_is_found_beside_the_type_inside_a_union_or_in_the_choice() -> None:
    names = {key: kind_of(field).name for key, field in FIELDS.items()}
    assert names == {
        "number": "number",
        "words": "list",
        "mode": "session | transaction | statement",
        "inner": "inside",
        "never": "text",
        "time": "seconds",
        "plain": "text",
    }


def test_values_are_shown_by_their_kind_and_unset_is_null() -> None:
    assert show(FIELDS["words"], ("a", "b")) == "a, b"
    assert show(FIELDS["mode"], PoolMode.SESSION) == "session"
    assert show(FIELDS["mode"], None) is None
    assert show(FIELDS["time"], 2.0) == "2"


def test_section_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Sample().number = 6


def test_unknown_key_is_refused() -> None:
    with pytest.raises(ValidationError):
        Sample.model_validate({"nmber": 1})


def test_refused_values_and_anything() -> None:
    with pytest.raises(ValidationError, match='"statement" is not supported by this version'):
        Sample(mode=PoolMode.STATEMENT)
    with pytest.raises(ValidationError, match="leave it unset"):
        Sample(never="x")
    assert Sample(mode=PoolMode.SESSION, never="").mode is PoolMode.SESSION


def test_messages_do_not_repeat_the_input() -> None:
    with pytest.raises(ValidationError) as caught:
        Sample.model_validate({"words": 5})
    assert "input_value" not in str(caught.value)
