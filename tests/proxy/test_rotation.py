"""Which of two verifiers a client is asked by while a password is rotated."""

from protocol.login import Md5Secret, PlainSecret, ScramVerifier, Secret, parse_secret
from proxy.rotation import Rotation
from tests.support.scram import verifier


def verifier_of(password: str, salt: bytes) -> ScramVerifier:
    secret = parse_secret(verifier(password, iterations=1, salt=salt).encode())
    assert isinstance(secret, ScramVerifier)
    return secret


OLD, NEW = verifier_of("old", b"old salt"), verifier_of("new", b"new salt")
BOTH: list[Secret] = [OLD, NEW]


def test_after_a_failed_login_the_other_verifier_has_its_turn_at_that_address_alone() -> None:
    rotation = Rotation()
    assert rotation.ordered("alice", "10.0.0.1", BOTH) == [OLD, NEW]
    rotation.failed("alice", "10.0.0.1", BOTH)
    assert rotation.ordered("alice", "10.0.0.1", BOTH) == [NEW, OLD]
    assert rotation.ordered("alice", "10.0.0.2", BOTH) == [OLD, NEW]
    assert rotation.ordered("bob", "10.0.0.1", BOTH) == [OLD, NEW]
    rotation.failed("alice", "10.0.0.1", BOTH)
    assert rotation.ordered("alice", "10.0.0.1", BOTH) == [OLD, NEW]


def test_secrets_of_one_salt_need_no_turns_and_nothing_is_kept_of_them() -> None:
    rotation = Rotation()
    for secrets in (
        [],
        [OLD],
        [OLD, verifier_of("new", b"old salt")],
        [PlainSecret(b"a"), PlainSecret(b"b")],
    ):
        rotation.failed("alice", "10.0.0.1", secrets)
        assert rotation.ordered("alice", "10.0.0.1", secrets) == secrets
    assert len(rotation) == 0


def test_secrets_of_other_kinds_stay() -> None:
    others: list[Secret] = [PlainSecret(b"x"), Md5Secret(b"0" * 32)]
    rotation = Rotation()
    rotation.failed("alice", "10.0.0.1", BOTH)
    assert rotation.ordered("alice", "10.0.0.1", [*others, *BOTH]) == [NEW, OLD, *others]


def test_only_so_many_turns_are_kept() -> None:
    rotation = Rotation(most=2)
    for number in range(5):
        rotation.failed(f"user {number}", "10.0.0.1", BOTH)
    assert len(rotation) == 2
