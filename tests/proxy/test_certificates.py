"""What is read from certificates, with the library of the tests as the other opinion."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from proxy.certificates import endpoint_hash, read_certificate
from tests.support.certificates import Kind, new_key, self_signed

HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
    "sha224": hashes.SHA224(),
}
CN = NameOID.COMMON_NAME


def signed(
    name: x509.Name,
    kind: Kind = "ec",
    digest: hashes.HashAlgorithm | None = None,
    *,
    pss: bool = False,
    until: datetime = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC),
) -> bytes:
    key = new_key(kind)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(until - timedelta(days=1))
        .not_valid_after(until)
    )
    algorithm = digest or hashes.SHA256()
    if pss:
        assert isinstance(key, rsa.RSAPrivateKey)
        scheme = padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH)
        made = builder.sign(key, algorithm, rsa_padding=scheme)  # type: ignore[arg-type]
    else:
        made = builder.sign(key, algorithm)  # type: ignore[arg-type]
    return made.public_bytes(Encoding.DER)


def named(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


@pytest.mark.parametrize("kind", ["ec", "rsa"])
@pytest.mark.parametrize("name", HASHES)
def test_a_server_is_bound_to_by_the_hash_of_its_certificates_signature(kind: Kind, name: str) -> None:
    der = signed(named((CN, "a")), kind, HASHES[name])
    assert read_certificate(der).hash_name == name
    assert endpoint_hash(der) == hashlib.new(name, der).digest()


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
def test_rsa_pss_has_its_hash_among_its_parameters(name: str) -> None:
    assert read_certificate(signed(named((CN, "a")), "rsa", HASHES[name], pss=True)).hash_name == name


def test_ed25519_has_no_hash_to_bind_by() -> None:
    der = self_signed(kind="ed25519").der
    assert read_certificate(der).hash_name is None
    assert endpoint_hash(der) is None


@pytest.mark.parametrize("known", ["1.2.840.113549.1.1.4", "1.2.840.113549.1.1.5", "1.2.840.10045.4.1"])
def test_broken_hashes_are_replaced_as_rfc_5929_says(known: str) -> None:
    assert read_certificate(resigned(known)).hash_name == "sha256"


def resigned(oid: str) -> bytes:
    """The frame of a certificate that says it was signed in this way; libraries make none any more."""
    der = self_signed().der
    body = x509.load_der_x509_certificate(der).tbs_certificate_bytes
    arcs = [int(arc) for arc in oid.split(".")]
    encoded = bytes([arcs[0] * 40 + arcs[1]])
    for arc in arcs[2:]:
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.insert(0, arc & 0x7F | 0x80)
        encoded += bytes(septets)
    return element(0x30, body + element(0x30, element(0x06, encoded)) + element(0x03, b"\0signature"))


def element(tag: int, body: bytes) -> bytes:
    assert len(body) < 65536
    return bytes([tag, 0x82]) + len(body).to_bytes(2, "big") + body


def test_the_subject_is_told_in_its_order() -> None:
    der = signed(named((NameOID.COUNTRY_NAME, "DE"), (NameOID.ORGANIZATION_NAME, "Ä & Co"), (CN, "db")))
    certificate = read_certificate(der)
    assert certificate.names == ((("C", "DE"),), (("O", "Ä & Co"),), (("CN", "db"),))
    assert certificate.subject_text() == "C=DE, O=Ä & Co, CN=db"


def test_attributes_of_one_relative_name_stay_together() -> None:
    both = [x509.NameAttribute(CN, "a"), x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "b")]
    der = signed(x509.Name([x509.RelativeDistinguishedName(both)]))
    ((first, second),) = read_certificate(der).names
    assert {first, second} == {("CN", "a"), ("OU", "b")}
    assert "+" in read_certificate(der).subject_text()


def test_an_attribute_without_a_short_name_has_its_object_id() -> None:
    der = signed(named((x509.ObjectIdentifier("1.3.6.1.4.1.311.60.2.1.3"), "DE")))
    assert read_certificate(der).names == ((("1.3.6.1.4.1.311.60.2.1.3", "DE"),),)


@pytest.mark.parametrize("kind", [_ASN1Type.BMPString, _ASN1Type.UniversalString, _ASN1Type.UTF8String])
def test_every_kind_of_string_is_decoded(kind: _ASN1Type) -> None:
    attribute = x509.NameAttribute(CN, "zoë", kind)
    assert read_certificate(signed(x509.Name([attribute]))).names == ((("CN", "zoë"),),)


def test_a_value_that_cannot_be_decoded_is_nobodys() -> None:
    der = signed(named((CN, "\xe9\xe9"))).replace("éé".encode(), b"\xff\xfe\xff\xfe")
    certificate = read_certificate(der)
    assert certificate.names == ((("CN", None),),)
    assert certificate.subject_text() == "CN=?"


@pytest.mark.parametrize("year", [1999, 2031, 2049, 2051])
def test_the_end_is_told_in_seconds_since_1970(year: int) -> None:
    until = datetime(year, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert read_certificate(signed(named((CN, "a")), until=until)).expires == until.timestamp()


@pytest.mark.parametrize("junk", [b"", b"\x30", b"\x30\x02\x30\0", b"\x30\x7f" + b"x" * 20, b"x" * 300])
def test_what_is_no_certificate_is_a_value_error(junk: bytes) -> None:
    with pytest.raises(ValueError, match="not a certificate"):
        read_certificate(junk)


def test_any_cut_certificate_is_a_value_error() -> None:
    der = self_signed().der
    for size in range(0, len(der), 7):
        with pytest.raises(ValueError, match="not a certificate"):
            read_certificate(der[:size])
