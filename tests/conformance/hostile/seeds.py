"""Attacks drawn by seed: a play, a place in it, a mutation, an aftermath.

Law: seed N is the same attack in every run, as far as PostgreSQL's good reply is the same.
"""

import random
from collections.abc import Mapping

from tests.conformance.hostile import scram
from tests.conformance.hostile.host import Aftermath, Attack, say_nothing
from tests.conformance.hostile.mutate import mutate
from tests.conformance.hostile.play import PHASES, Play
from tests.support.script import Conversation

LOGIN = "login"
ORDER = (LOGIN, *PHASES)
"""Seed N is about phase N modulo their number."""

_AFTERMATHS = (
    *[Aftermath.GO_ON] * 6,
    *[Aftermath.HANG_UP] * 2,
    Aftermath.RESET,
    Aftermath.SILENT,
)


def draw(seed: int, plays: Mapping[str, Play], greeting: tuple[bytes, ...]) -> Attack:
    """The attack of this seed. `greeting`: what a good server says at a login by trust."""
    dice = random.Random(seed)
    phase = ORDER[seed % len(ORDER)]
    if phase == LOGIN:
        return _login(seed, dice, plays["simple"], greeting)
    play = plays[dice.choice(PHASES[phase])]
    at = dice.randrange(len(play.stages))
    own = dice.randrange(2**32)
    aftermath = dice.choice(_AFTERMATHS)
    names = mutate(play.stages[at].reply, random.Random(own))[0]
    name = f"seed {seed}: {play.name}, reply {at}: {names}, {aftermath.value}"
    return Attack(name, play, at, lambda good: mutate(good, random.Random(own))[1], aftermath)


def _login(seed: int, dice: random.Random, play: Play, greeting: tuple[bytes, ...]) -> Attack:
    silent = dice.random() < 0.2
    if dice.random() < 0.5:
        names, said = mutate(greeting, dice)

        def trust(conversation: Conversation) -> None:
            conversation.send(said)
            _wait(conversation, silent)

        return Attack(f"seed {seed}: login by trust: {names}", play, login=trust)

    place = dice.randrange(4)
    own = dice.randrange(2**32)

    def alter(number: int, reply: tuple[bytes, ...]) -> bytes:
        if number != place:
            return scram.honest(number, reply)
        return mutate(reply, random.Random(own))[1]

    def by_scram(conversation: Conversation) -> None:
        scram.log_in(conversation, alter, greeting)
        _wait(conversation, silent)

    names = mutate(greeting if place == 3 else (scram.offer(),), random.Random(own))[0]
    return Attack(f"seed {seed}: login by SCRAM, reply {place}: {names}", play, login=by_scram)


def _wait(conversation: Conversation, silent: bool) -> None:
    """A login that went wrong without anybody noticing goes on to be served, one that is silent ends."""
    if silent:
        say_nothing(conversation)
