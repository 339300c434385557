"""TLS, user and password, and access control are passed through to zenoh, tested with real certificates."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from penstock.errors import CannotConnectToStoreError, SourceError, StoreError
from penstock.record import Record
from penstock_zenoh.source import ZenohSource
from penstock_zenoh.store import ZenohStore

WITHIN_S = 20


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate authority that signs for 127.0.0.1, and another, untrusted one."""
    home = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=home)

    (home / "end.ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n")
    for name in ("ours", "other"):
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
            *("-keyout", f"{name}-ca.key", "-out", f"{name}-ca.pem", "-subj", f"/CN={name} authority"),
        )
        openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"),
        )
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", f"{name}-ca.pem", "-CAkey", f"{name}-ca.key", "-days", "2"),
            *("-CAcreateserial", "-extfile", "end.ext", "-out", f"{name}.pem"),
        )
    return home


def tls(home: Path, name: str, *, trusts: str = "ours") -> dict:
    """A configuration with the certificate of `name` at both ends, each of which must show one."""
    return {
        "transport": {
            "link": {
                "tls": {
                    "root_ca_certificate": str(home / f"{trusts}-ca.pem"),
                    "listen_private_key": str(home / f"{name}.key"),
                    "listen_certificate": str(home / f"{name}.pem"),
                    "connect_private_key": str(home / f"{name}.key"),
                    "connect_certificate": str(home / f"{name}.pem"),
                    "enable_mtls": True,
                }
            }
        }
    }


def user(name: str, password: str, passwords: Path | None = None) -> dict:
    """A configuration with a user's name and password, and, where one listens, with a file of those who may connect."""
    given = {"user": name, "password": password}
    if passwords is not None:
        given["dictionary_file"] = str(passwords)
    return {"transport": {"auth": {"usrpwd": given}}}


def read(source, count: int) -> list[Record]:
    records: list[Record] = []
    deadline = time.monotonic() + WITHIN_S
    while len(records) < count and time.monotonic() < deadline:
        records += source.read(count, 0.5)
    return records


def test_records_over_tls(authority, endpoint, opened):
    """With mutual TLS, records and receipts are exchanged; keys are never printed."""
    at = endpoint.replace("tcp/", "tls/")
    source = opened(ZenohSource(key="lab/**", listen=[at], config=tls(authority, "ours")))
    store = opened(ZenohStore(key="lab/a", connect=[at], config=tls(authority, "ours")))
    store.write([Record(b"%d" % n) for n in range(100)])
    store.sync()
    assert [record.data for record in read(source, 100)] == [b"%d" % n for n in range(100)]
    assert ".key" not in repr(source) + repr(store)


@pytest.mark.parametrize(("name", "trusts"), [("other", "ours"), ("ours", "other")])
def test_a_certificate_of_another_authority_is_refused(name, trusts, authority, endpoint, opened):
    """A store with an untrusted certificate, or that does not trust the source's, gets an error in time."""
    at = endpoint.replace("tcp/", "tls/")
    opened(ZenohSource(key="lab/**", listen=[at], config=tls(authority, "ours")))
    store = ZenohStore(key="lab/a", connect=[at], config=tls(authority, name, trusts=trusts), timeout_s=1)
    with pytest.raises(CannotConnectToStoreError, match=f"no answer at {at} within 1 s"):
        store.open()


def test_a_certificate_that_is_not_there_is_named(authority, endpoint):
    """A path of a certificate that does not exist is an error of opening."""
    config = tls(authority, "nobody")
    with pytest.raises(SourceError, match="zenoh source 'a'"):
        ZenohSource(key="a", listen=[endpoint.replace("tcp/", "tls/")], config=config, timeout_s=1).open()


def test_a_user_with_a_password(endpoint, opened, tmp_path):
    """A listed user with the right password connects, another one does not; the password is never printed."""
    passwords = tmp_path / "users.txt"
    passwords.write_text("camera:s3cret\narchive:0pen\n")
    source = opened(ZenohSource(key="lab/**", listen=[endpoint], config=user("archive", "0pen", passwords)))
    store = opened(ZenohStore(key="lab/a", connect=[endpoint], config=user("camera", "s3cret", passwords)))
    store.write([Record(b"x")])
    store.sync()
    assert len(read(source, 1)) == 1
    assert "s3cret" not in repr(store)
    for wrong in (user("camera", "wr0ng"), user("nobody", "s3cret"), None):
        with pytest.raises(CannotConnectToStoreError) as error:
            ZenohStore(key="lab/a", connect=[endpoint], config=wrong, timeout_s=0.5).open()
        assert "wr0ng" not in str(error.value)


def access(*puts: str, permission: str = "allow") -> dict:
    """A configuration that allows messages on these keys only, or denies them; subscriptions are allowed."""
    declared = ["declare_subscriber", "liveliness_token", "liveliness_query", "declare_liveliness_subscriber"]
    rule = {"permission": permission, "flows": ["ingress", "egress"]}
    return {
        "access_control": {
            "enabled": True,
            "default_permission": "deny" if permission == "allow" else "allow",
            "rules": [
                {
                    **rule,
                    "id": "declared",
                    "messages": declared,
                    "key_exprs": ["lab/**", *puts][permission == "deny" :],
                },
                {**rule, "id": "put", "messages": ["put"], "key_exprs": list(puts)},
            ],
            "subjects": [{"id": "all"}],
            "policies": [{"rules": ["declared", "put"], "subjects": ["all"]}],
        }
    }


def test_access_control_lets_what_is_allowed_pass(endpoint, opened):
    """If `@penstock/**` is allowed beside the user's keys, records, receipts and the end arrive."""
    allowed = access("lab/open/**", "@penstock/**")
    source = opened(ZenohSource(key="lab/**", listen=[endpoint], until_end=True, config=allowed))
    store = ZenohStore(key="lab/open/a", connect=[endpoint], timeout_s=5)
    store.open()
    store.write([Record(b"%d" % n) for n in range(100)])
    store.close()
    assert len(read(source, 100)) == 100


def test_access_control_keeps_the_rest_out(endpoint, opened):
    """Denied records are counted as lost at both ends: nothing is lost silently."""
    allowed = access("lab/open/**", "@penstock/**")
    source = opened(ZenohSource(key="lab/**", listen=[endpoint], config=allowed))
    store = ZenohStore(key="lab/shut/a", connect=[endpoint], timeout_s=1, settle_s=0.5)
    store.open()
    store.write([Record(b"x")])
    with pytest.raises(StoreError, match="misses 1 records"):
        store.close()
    assert source.read(10, 0.2) == ()
    assert source.lost_upstream() == {"lab/shut/a": 1}


def test_access_control_without_our_own_keys_is_an_error(endpoint, opened):
    """If `@penstock/**` is denied, a store sees no source: an error in time names the settings to compare."""
    opened(ZenohSource(key="lab/**", listen=[endpoint], config=access("@penstock/**", permission="deny")))
    store = opened(ZenohStore(key="lab/a", connect=[endpoint], timeout_s=0.5))
    with pytest.raises(StoreError, match="0 of 1 sources subscribe"):
        store.write([Record(b"x")])
