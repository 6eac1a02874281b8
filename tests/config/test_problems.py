"""How problems are printed and how misspelt names are matched."""

from config.problems import (
    ConfigError,
    NotChangeable,
    Problem,
    Severity,
    UnknownSetting,
    did_you_mean,
    find_place,
)


def test_problem_reads_file_line_key_message() -> None:
    assert str(Problem("a.ini", 7, "pool_mode", "is odd")) == "a.ini:7: pool_mode: is odd"


def test_problem_without_line_or_key_leaves_them_out() -> None:
    assert str(Problem("environment", 0, "HOWDAH__X", "is odd")) == "environment: HOWDAH__X: is odd"
    assert str(Problem("a.ini", 3, "", "is not UTF-8")) == "a.ini:3: is not UTF-8"


def test_warning_says_that_it_is_one() -> None:
    assert str(Problem("a.ini", 7, "k", "is odd", Severity.WARNING)) == "a.ini:7: warning: k: is odd"


def test_config_error_prints_one_problem_per_line_in_order() -> None:
    error = ConfigError([Problem("b", 2, "y", "two"), Problem("a", 1, "x", "one")])
    assert str(error) == "b:2: y: two\na:1: x: one"
    assert [problem.key for problem in error.problems] == ["y", "x"]


def test_unknown_setting_suggests_the_nearest_name() -> None:
    error = UnknownSetting("Pool_Mod", ["pool_mode", "user"])
    assert str(error) == 'unknown setting "Pool_Mod", did you mean "pool_mode"?'
    assert error.key == "Pool_Mod"


def test_not_changeable_names_the_key() -> None:
    assert "listen_port" in str(NotChangeable("listen_port"))
    assert NotChangeable("listen_port").key == "listen_port"


def test_nothing_is_suggested_for_a_word_like_no_other() -> None:
    assert did_you_mean("zzzzzz", ["pool_mode", "user"]) == ""


def test_place_is_that_of_the_value_or_of_the_nearest_table() -> None:
    table, value = Problem("a", 1, "app", ""), Problem("a", 2, "host", "")
    places = {("databases", "app"): table, ("databases", "app", "host"): value}
    assert find_place(("databases", "app", "host"), places) is value
    assert find_place(("databases", "app", "port", "0"), places) is table
    assert find_place(("users", "app"), places) is None
