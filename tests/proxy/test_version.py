from proxy.version import PGBOUNCER_VERSION, version_text


def test_the_first_two_words_are_pgbouncers() -> None:
    assert version_text().split()[:2] == ["PgBouncer", PGBOUNCER_VERSION]
    assert version_text() == "PgBouncer 1.25.2 (Howdah 0.1.0)"


def test_a_compiled_build_says_so_behind_the_version() -> None:
    assert version_text(compiled=True) == "PgBouncer 1.25.2 (Howdah 0.1.0, compiled)"


def test_a_build_with_the_pump_says_that_too() -> None:
    assert version_text(compiled=True, pump=True) == "PgBouncer 1.25.2 (Howdah 0.1.0, compiled, pump)"
