"""What tests of TLS to servers share: a fake server that does TLS, and settings that trust it."""

from tests.support import messages as m
from tests.support.certificates import Files, Pki
from tests.support.rig import Rig
from tests.support.script import Conversation, Script
from tests.support.terminator import server_context

WEAK = ("disable", "allow", "prefer")
STRONG = ("require", "verify-ca", "verify-full")


def secure(rig: Rig, pki: Pki, files: Files | None = None, *, alpn: bool = True) -> None:
    """Let the fake server do TLS, with the certificate for this machine if none is given."""
    rig.fake.answer = b"S"
    rig.fake.context = server_context(files or pki.server(), client_ca=pki.ca, alpn=alpn)


def trusting(pki: Pki, mode: str, **more: object) -> dict[str, object]:
    """The entry of a database whose servers' certificates the test authority has signed."""
    return {"sslmode": mode, "sslrootcert": str(pki.ca), **more}


def only_if(*, encrypted: bool) -> Script:
    """A server whose pg_hba.conf knows one kind of connection."""

    def script(conversation: Conversation) -> None:
        is_encrypted = conversation.tls is not None
        if is_encrypted is encrypted:
            conversation.welcome()
            conversation.serve()
        else:
            conversation.refuse("28000", f"no entry, encrypted: {is_encrypted}")

    return script


async def login_refused(rig: Rig) -> m.Fields:
    """What a client is told for whom no server can be opened."""
    peer = await rig.connect()
    peer.send(m.startup({"user": "alice", "database": "app"}))
    return await peer.error()
