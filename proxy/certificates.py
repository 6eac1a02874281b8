"""What a certificate says of itself: whose it is, until when, and by which hash it was signed.

A walk over its DER, which OpenSSL has accepted before; anything else is a ValueError. Python's ssl tells this
only of the other side of a connection, and only where it was verified.
"""

import hashlib
from datetime import UTC, datetime
from typing import Final, NamedTuple

_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_ENCODINGS: Final = {0x14: "latin-1", 0x1C: "utf-32-be", 0x1E: "utf-16-be"}
_PSS: Final = "1.2.840.113549.1.1.10"
_ATTRIBUTES: Final = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "street",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.42": "GN",
    "2.5.4.43": "initials",
    "2.5.4.46": "dnQualifier",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
}
# MD5 and SHA-1 are here by the hash that RFC 5929 puts in their place.
_SIGNATURES: Final = {
    "1.2.840.113549.1.1.4": "sha256",
    "1.2.840.113549.1.1.5": "sha256",
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
    "1.2.840.113549.1.1.14": "sha224",
    "1.2.840.10040.4.3": "sha256",
    "1.2.840.10045.4.1": "sha256",
    "1.2.840.10045.4.3.1": "sha224",
    "1.2.840.10045.4.3.2": "sha256",
    "1.2.840.10045.4.3.3": "sha384",
    "1.2.840.10045.4.3.4": "sha512",
    "2.16.840.1.101.3.4.3.1": "sha224",
    "2.16.840.1.101.3.4.3.2": "sha256",
}
_HASHES: Final = {
    "1.3.14.3.2.26": "sha256",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "2.16.840.1.101.3.4.2.4": "sha224",
}


RelativeName = tuple[tuple[str, str | None], ...]


class Certificate(NamedTuple):
    """`names`: the subject's relative names in their order; of each its attributes, by short name or object
    id, None for a value that cannot be decoded. `expires`: seconds since 1970. `hash_name`: of the signature,
    as in hashlib; None where there is none, as in Ed25519.
    """

    names: tuple[RelativeName, ...]
    expires: int
    hash_name: str | None

    def subject_text(self) -> str:
        """The subject for people; nobody may be let in by it."""
        return ", ".join(
            "+".join(f"{kind}={'?' if value is None else value}" for kind, value in name)
            for name in self.names
        )


class _Element(NamedTuple):
    tag: int
    body: bytes


def read_certificate(der: bytes) -> Certificate:
    """Read the certificate. Raises ValueError."""
    try:
        whole = _children(_children(der)[0].body)
        fields = _children(whole[0].body)
        # The version is left out in the oldest kind.
        _, _, _, validity, subject = fields[1 if fields[0].tag == _VERSION else 0 :][:5]
        return Certificate(
            tuple(_attributes(name.body) for name in _children(subject.body)),
            _time(_children(validity.body)[1]),
            _hash_name(_children(whole[1].body)),
        )
    except (IndexError, OverflowError, UnicodeError) as error:
        raise ValueError("not a certificate") from error


def endpoint_hash(der: bytes) -> bytes | None:
    """The data of channel binding by tls-server-end-point (RFC 5929) for this certificate of a server.

    None where it is not defined.
    """
    name = read_certificate(der).hash_name
    return hashlib.new(name, der).digest() if name is not None else None


def _children(data: bytes) -> list[_Element]:
    found = []
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if at + length > len(data):
            raise ValueError("not a certificate: an element is cut off")
        found.append(_Element(tag, data[at : at + length]))
        at += length
    return found


def _object_id(body: bytes) -> str:
    arcs = [min(body[0] // 40, 2)]
    arcs.append(body[0] - 40 * arcs[0])
    value = 0
    for byte in body[1:]:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            arcs.append(value)
            value = 0
    return ".".join(map(str, arcs))


def _attributes(name: bytes) -> RelativeName:
    found = []
    for pair in _children(name):
        kind, value = _children(pair.body)[:2]
        oid = _object_id(kind.body)
        found.append((_ATTRIBUTES.get(oid, oid), _text(value)))
    return tuple(found)


def _text(value: _Element) -> str | None:
    try:
        return value.body.decode(_ENCODINGS.get(value.tag, "utf-8"))
    except UnicodeError:
        return None


def _time(element: _Element) -> int:
    text = element.body.decode("ascii")
    if element.tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    if len(text) != 15 or not text[:14].isdecimal() or text[14] != "Z":
        raise ValueError("not a certificate: a time that is none")
    month, day, hour, minute, second = (int(text[at : at + 2]) for at in range(4, 14, 2))
    # Not strptime, which imports its other half at its first call: too late for a user who may not read it.
    return int(datetime(int(text[:4]), month, day, hour, minute, second, tzinfo=UTC).timestamp())


def _hash_name(algorithm: list[_Element]) -> str | None:
    oid = _object_id(algorithm[0].body)
    if oid != _PSS:
        return _SIGNATURES.get(oid)
    for parameter in _children(algorithm[1].body):
        if parameter.tag == 0xA0:
            return _HASHES.get(_object_id(_children(_children(parameter.body)[0].body)[0].body))
    # Its default is SHA-1.
    return "sha256"
