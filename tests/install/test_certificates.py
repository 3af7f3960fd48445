"""The certificates between Envoy and its control plane over the years."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from kajitori.gateway.fleet.certificates import (
    AUTHORITY_SECONDS,
    BUNDLE,
    CERTIFICATE,
    KEY,
    LEAF_SECONDS,
    PUBLISHED_SECONDS,
    Leaf,
    Stored,
    renew,
)

START = 1_800_000_000.0
SERVER = Leaf("server", ("gateway.ns.svc", "gateway"), server=True)
CLIENT = Leaf("client", ("envoy.ns",), server=False)
EMPTY = Stored({}, {}, {})
DAY = 86_400.0


def at(stored: Stored, seconds: float) -> Stored:
    return renew(stored, SERVER, CLIENT, START + seconds)


def trusts(bundle: bytes, certificate: bytes) -> bool:
    """Whether one of the authorities signed it."""
    leaf = x509.load_pem_x509_certificate(certificate)
    for authority in x509.load_pem_x509_certificates(bundle):
        try:
            leaf.verify_directly_issued_by(authority)
        except Exception:
            continue
        return True
    return False


def test_the_first_look_makes_all_and_the_next_changes_nothing() -> None:
    first = at(EMPTY, 0)
    assert at(first, 60) == first
    certificate = x509.load_pem_x509_certificate(first.server[CERTIFICATE])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == list(SERVER.hosts)
    key = serialization.load_pem_private_key(first.server[KEY], None)
    assert key.public_key() == certificate.public_key()
    assert trusts(first.client[BUNDLE], first.server[CERTIFICATE])
    assert trusts(first.server[BUNDLE], first.client[CERTIFICATE])


def test_a_leaf_is_renewed_in_the_last_third_of_its_life() -> None:
    first = at(EMPTY, 0)
    assert at(first, LEAF_SECONDS * 2 / 3 - DAY).server is first.server
    renewed = at(first, LEAF_SECONDS * 2 / 3 + DAY)
    assert renewed.server[CERTIFICATE] != first.server[CERTIFICATE]
    assert renewed.authority == first.authority
    assert trusts(first.client[BUNDLE], renewed.server[CERTIFICATE])


def test_an_authority_is_replaced_without_a_moment_of_distrust() -> None:
    before = at(EMPTY, 0)
    soon = AUTHORITY_SECONDS - 2 * LEAF_SECONDS + DAY
    published = at(before, soon)
    # The next one is known to all before it signs anything.
    assert published.authority[CERTIFICATE] == before.authority[CERTIFICATE]
    assert len(x509.load_pem_x509_certificates(published.server[BUNDLE])) == 2
    assert trusts(before.client[BUNDLE], published.server[CERTIFICATE])
    again = at(published, soon + PUBLISHED_SECONDS / 2)
    assert again == published
    switched = at(published, soon + PUBLISHED_SECONDS + 60)
    assert switched.authority[CERTIFICATE] == published.authority["next.crt"]
    # Either side may be the first to read the new ones.
    for old, new in ((published, switched), (switched, published)):
        assert trusts(old.client[BUNDLE], new.server[CERTIFICATE])
        assert trusts(old.server[BUNDLE], new.client[CERTIFICATE])
    later = at(switched, AUTHORITY_SECONDS + DAY)
    assert len(x509.load_pem_x509_certificates(later.server[BUNDLE])) == 1


def test_what_somebody_broke_is_made_anew() -> None:
    good = at(EMPTY, 0)
    for broken in (
        Stored(good.authority, {**good.server, KEY: b"nonsense"}, good.client),
        Stored(good.authority, {CERTIFICATE: good.server[CERTIFICATE]}, good.client),
        Stored(good.authority, good.client, good.client),
        Stored({}, good.server, good.client),
        Stored({**good.authority, KEY: good.server[KEY]}, good.server, good.client),
    ):
        mended = at(broken, 60)
        assert trusts(mended.client[BUNDLE], mended.server[CERTIFICATE])
        assert at(mended, 120) == mended


def test_other_names_make_another_certificate() -> None:
    good = at(EMPTY, 0)
    moved = renew(good, Leaf("server", ("elsewhere",), server=True), CLIENT, START)
    assert moved.server != good.server and moved.client == good.client
