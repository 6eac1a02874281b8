"""Every source file has its test file, at the same place below tests/."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("protocol", "config", "proxy")

WITHOUT_TESTS: dict[str, str] = {
    "protocol/looks.py": "tables; what they do is seen in the framer",
    "protocol/native.py": "names for the compiler",
    "proxy/handle.py": "plain data, seen in the supervisor",
    "proxy/announcements.py": "plain data, seen where they are sent and received",
    "proxy/loops.py": "one choice, seen in every worker",
    "proxy/owner.py": "a typing protocol, and an owner that does nothing",
    "proxy/notes.py": "plain data, seen in what is made of it",
    "proxy/reasons.py": "enums; their texts are checked where they are shown",
    "proxy/inquiries.py": "plain data, seen where it is asked and answered",
    "proxy/source.py": "typing protocols, erased at run time",
    "proxy/pool/interfaces.py": "typing protocols, erased at run time",
    "proxy/pool/parties.py": "base classes that do nothing by themselves",
    "proxy/pool/states.py": "constants",
    "proxy/pool/units.py": "one constant",
}


def sources() -> list[Path]:
    """The modules that do something of their own, relative to the root."""
    found = [path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return sorted(path for path in found if path.name not in ("__init__.py", "__main__.py"))


def mirrors_of(source: Path) -> list[Path]:
    """`test_name.py`, or several files `test_name_aspect.py` where one would be too long."""
    folder = ROOT / "tests" / source.parent
    return [*folder.glob(f"test_{source.stem}.py"), *folder.glob(f"test_{source.stem}_*.py")]


def test_every_source_file_has_its_test_file() -> None:
    missing = [str(path) for path in sources() if not mirrors_of(path) and str(path) not in WITHOUT_TESTS]
    assert not missing, "without tests: " + ", ".join(missing)


def test_the_exceptions_exist_and_still_need_to_be_one() -> None:
    names = {str(path) for path in sources()}
    assert [name for name in WITHOUT_TESTS if name not in names or mirrors_of(Path(name))] == []


def test_every_folder_of_tests_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []
