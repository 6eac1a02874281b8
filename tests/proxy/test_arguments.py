"""The parser's own habit: exit code 1 and a hint."""

import pytest

from proxy.arguments import Parser


def test_a_mistake_ends_with_exit_code_1_and_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        Parser(prog="howdah demo").parse_args(["--nonsense"])
    assert exit_.value.code == 1
    assert capsys.readouterr().err == (
        "howdah demo: unrecognized arguments: --nonsense\nTry `howdah demo -h`.\n"
    )
