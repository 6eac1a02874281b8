"""The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), open at every step to be got wrong.

Law: independent of the `protocol` package; no channel binding.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def verifier(password: str, *, iterations: int = 4096, salt: bytes = b"0123456789abcdef") -> str:
    """The secret as PostgreSQL keeps it in rolpassword and PgBouncer in the auth_file."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
    server = _hmac(salted, b"Server Key")
    words = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{words[0]}${words[1]}:{words[2]}"


def attributes(data: bytes) -> dict[str, str]:
    """`r=...,s=...,i=...` as a dict."""
    return {item[:1]: item[2:] for item in data.decode().split(",")}


@dataclass
class ScramClient:
    """One exchange; overwrite a field between the steps to send something else."""

    password: str
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    header: str = "n,,"
    proof: bytes | None = None
    final_nonce: str | None = None
    junk: str = ""

    def first(self) -> bytes:
        return f"{self.header}n=,r={self.nonce}".encode()

    def final(self, server_first: bytes, *, binding: str | None = None) -> bytes:
        """client-final-message; `binding` replaces the header that `c=` repeats."""
        said = attributes(server_first)
        nonce = self.final_nonce or said["r"]
        echoed = base64.b64encode((self.header if binding is None else binding).encode()).decode()
        bare = f"c={echoed},r={nonce}"
        salted = hashlib.pbkdf2_hmac(
            "sha256", self.password.encode(), base64.b64decode(said["s"]), int(said["i"])
        )
        key = _hmac(salted, b"Client Key")
        spoken = f"n=,r={self.nonce},{server_first.decode()},{bare}".encode()
        signature = _hmac(hashlib.sha256(key).digest(), spoken)
        proof = self.proof or bytes(a ^ b for a, b in zip(key, signature, strict=True))
        return f"{bare},p={base64.b64encode(proof).decode()}{self.junk}".encode()
