"""Refuse addresses that hold a secret, and recognise those to which a secret would travel in clear text."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from sweeps.spec.validation import BadInput

# `://USER:PASSWORD@`, also if the password has a slash; a number and a slash after the colon are a port.
PASSWORD = re.compile(r"://[^/@\s]*:(?!\d+(?:[/?#]|$))[^@\s]*@")
USER = re.compile(r"://[^/@\s]+@")
SECRET_FIELD = re.compile(r"[?&][^=&]*(secret|token|passw(or)?d|signature|sig|credential|(api|access)_?key)=", re.I)
NAMES_ARE_PUBLIC = ("hdfs", "viewfs", "gs", "gcs", "abfs", "abfss")  # a user or a container, without a password
REMEDIES = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS",
    "abfs": "AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET",
    "abfss": "AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET",
    "http": "the variable that --key-variable names, HF_TOKEN or MLFLOW_TRACKING_PASSWORD",
    "https": "the variable that --key-variable names, HF_TOKEN or MLFLOW_TRACKING_PASSWORD",
}
LOGIN = "MLFLOW_TRACKING_URI"  # of databases, which have no variable for a password alone


def has_secret(address: str) -> bool:
    """Return whether the address holds a password, a key or a token; encoded parts count, too."""
    scheme, plain = address.partition("://")[0].lower(), unquote(address)
    if PASSWORD.search(plain) or SECRET_FIELD.search(plain):
        return True
    return scheme not in NAMES_ARE_PUBLIC and USER.search(plain) is not None


def check_no_secret(flag: str, address: str) -> None:
    """Raise BadInput if the address holds a secret: `sweep.yaml` and process lists would show it to others."""
    if has_secret(address):
        scheme = address.partition("://")[0].rpartition(":")[2].lower()
        raise BadInput(
            f"{flag} {scheme}://...: the address holds a password or a key, which files and process lists would show;"
            f" leave it out, and set {REMEDIES.get(scheme, LOGIN)} in the environment"
        )


def check_command_line(words: Iterable[str]) -> None:
    """Raise BadInput if an address among the words of a command line holds a secret."""
    flag = ""
    for word in words:
        name, _, value = word.partition("=") if word.startswith("--") else ("", "", word)
        flag = name or flag
        if "://" in word:
            check_no_secret(flag, value)


def is_this_machine(host: str | None) -> bool:
    """Return whether only this machine can be meant by the host of an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def in_clear(address: str) -> bool:
    """Return whether others can read what is sent to this address: plain http to another machine."""
    parts = urlsplit(address)
    return parts.scheme == "http" and not is_this_machine(parts.hostname)
