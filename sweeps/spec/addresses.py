"""Refuse addresses that hold a secret, and recognise those to which a secret would travel in clear text."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable
from urllib.parse import SplitResult, unquote, urlsplit

from trainables.bad_input import BadInput

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
HALVES = re.compile("[\ud800-\udfff]")
TRUE = ("1", "ON", "YES", "TRUE")  # as huggingface_hub reads its variables
LOGIN = "MLFLOW_TRACKING_URI"  # of databases, which have no variable for a password alone


def read_address(what: str, address: str) -> SplitResult:
    """Return the parts of an address. Raises BadInput, which says `what`, for one that is none."""
    try:
        parts = urlsplit(address)
        _ = parts.port  # which is read only now
    except ValueError as error:
        raise BadInput(what, f"is no address ({error})", "give one such as http://localhost:5000") from error
    return parts


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
            f"{flag} {scheme}://...:",
            "the address holds a password or a key, which files and process lists would show",
            f"leave it out, and set {REMEDIES.get(scheme, LOGIN)} in the environment",
        )


def check_command_line(words: Iterable[str]) -> None:
    """Raise BadInput if a word of a command line is no text, or an address in it holds a secret."""
    flag = ""
    for word in words:
        if HALVES.search(word):  # how Python reads bytes that are no UTF-8; no file could name the word
            raise BadInput(f"{word!r} of the command line", "is no UTF-8 text", "rename the file, or type it again")
        name, _, value = word.partition("=") if word.startswith("--") else ("", "", word)
        flag = name or flag
        if "://" in word:
            check_no_secret(flag, value)


def check_hub_address() -> None:
    """Raise BadInput if HF_ENDPOINT, a mirror of the Hugging Face hub, is no address, or if a token would travel there
    in clear text."""
    address = os.environ.get("HF_ENDPOINT", "")
    parts = read_address(f"HF_ENDPOINT={address}", address)
    if address and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise BadInput(f"HF_ENDPOINT={address}", "is no address of a server", "unset it, or give https://HOST")
    if not in_clear(address) or os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() in TRUE:
        return
    from huggingface_hub import get_token

    if get_token():
        raise BadInput(
            f"HF_ENDPOINT={address}",
            "is another machine, and plain http would show your token of the hub to the network",
            "give an https:// address, or set HF_HUB_DISABLE_IMPLICIT_TOKEN=1",
        )


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
