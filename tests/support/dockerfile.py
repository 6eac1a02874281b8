"""A Dockerfile without an engine: its instructions, and a build of its stages into a folder.

Law: only what the project's Dockerfile uses is understood; anything else is an error, so that a test cannot
pass by overlooking it. The image's /opt lies below one folder, the root, which each stage finds empty.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

IGNORED = ("LABEL", "EXPOSE", "ARG")
CONTEXT_LEAVES_OUT: tuple[str, ...] = ("__pycache__", "*.so")


@dataclass(frozen=True)
class Instruction:
    """One instruction with its words, continuation lines joined."""

    name: str
    text: str


def parse(text: str) -> list[Instruction]:
    """The instructions in order; comments and empty lines left out."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines()]


@dataclass
class Image:
    """What a build leaves: the root folder, and how to run what is in it."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    stop_signal: str = "SIGTERM"
    user: str = "0"

    def placed(self, text: str) -> str:
        """The text with the image's own absolute paths where they really are."""
        return re.sub(r"(?<![\w./])/opt/", f"{self.root}/opt/", text)


class Build:
    """Runs the instructions; `python` names the interpreter that the base image would bring."""

    def __init__(self, context: Path, folder: Path, python: Path, environment: Mapping[str, str]) -> None:
        self.context = context
        self.folder = folder
        self.outer = dict(environment)
        self.stages: dict[str, Path] = {}
        self.image = Image(folder / "image")
        self.work = self.image.root
        tools = folder / "tools"
        tools.mkdir()
        (tools / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(str(python))} "$@"\n')
        (tools / "python").chmod(0o755)
        self.path = f"{tools}:/usr/bin:/bin"
        self.name = ""

    def run(self, instructions: list[Instruction]) -> Image:
        """Build all stages; the image of the last one. Raises ValueError or CalledProcessError."""
        for instruction in instructions:
            method = getattr(self, f"_{instruction.name.lower()}", None)
            if method is not None:
                method(instruction.text)
            elif instruction.name not in IGNORED:
                raise ValueError(f"{instruction.name} is not understood")
        return self.image

    def _from(self, text: str) -> None:
        match = re.fullmatch(r"\S+?(?: AS (\w+))?", text)
        if match is None:
            raise ValueError(f"FROM {text}")
        if self.image.root.exists():
            self.stages[self.name] = self.image.root.rename(self.folder / f"stage-{self.name}")
        self.name = match[1] or ""
        self.image = Image(self.folder / "image")
        self.image.root.mkdir()
        self.work = self.image.root

    def _env(self, text: str) -> None:
        for word in shlex.split(text):
            name, _, value = word.partition("=")
            self.image.environment[name] = self.image.placed(value).replace("$PATH", self.path)

    def _workdir(self, text: str) -> None:
        self.work = self.image.root / text.lstrip("/")
        self.work.mkdir(parents=True)

    def _copy(self, text: str) -> None:
        words = text.split()
        source, left_out = self.context, CONTEXT_LEAVES_OUT
        if words[0].startswith("--from="):
            source, left_out = self.stages[words.pop(0).removeprefix("--from=")], ()
        *names, target = words
        to = self.image.root / target.lstrip("/") if target.startswith("/") else self.work / target
        for name in names:
            one = source / name.lstrip("/")
            if one.is_dir():
                shutil.copytree(one, to, symlinks=True, ignore=shutil.ignore_patterns(*left_out))
            else:
                shutil.copy(one, to)

    def _run(self, text: str) -> None:
        environment = {"PATH": self.path, "HOME": str(self.folder), **self.image.environment, **self.outer}
        command = ["/bin/sh", "-ec", self.image.placed(text)]
        subprocess.run(command, cwd=self.work, env=environment, check=True, timeout=1200)

    def _user(self, text: str) -> None:
        self.image.user = text

    def _stopsignal(self, text: str) -> None:
        self.image.stop_signal = text

    def _healthcheck(self, text: str) -> None:
        self.image.healthcheck = json.loads(text.partition(" CMD ")[2])

    def _entrypoint(self, text: str) -> None:
        self.image.entrypoint = json.loads(text)

    def _cmd(self, text: str) -> None:
        self.image.command = json.loads(text)


def package_index() -> dict[str, str]:
    """The variables that tell pip where packages come from on this machine."""
    wanted = re.compile("PIP_.*|.*_proxy", re.IGNORECASE)
    return {name: value for name, value in os.environ.items() if wanted.fullmatch(name)}
