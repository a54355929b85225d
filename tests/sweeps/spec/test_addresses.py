"""Addresses with a secret are refused before anything is written, and the message does not repeat it."""

from __future__ import annotations

import pytest

from sweeps.spec.addresses import check_command_line, check_hub_address, in_clear
from tests.support.driving import sweep_here
from trainables.bad_input import BadInput

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCY"


@pytest.mark.parametrize(
    ("address", "remedy"),
    {
        f"s3://AKIA123:{SECRET}@bucket/runs": "AWS_ACCESS_KEY_ID",
        f"s3://AKIA123:{SECRET.replace('/', '%2F')}@bucket": "AWS_SECRET_ACCESS_KEY",
        f"s3://{SECRET.replace('/', '')}@bucket": "AWS_SECRET_ACCESS_KEY",
        f"s3://bucket?endpoint_override=http%3A%2F%2Fme%3A{SECRET.replace('/', '')}%40host": "AWS_SECRET",
        f"gs://me:{SECRET}@bucket": "GOOGLE_APPLICATION_CREDENTIALS",
        f"abfs://container@account.dfs.core.windows.net/x?client_secret={SECRET}": "AZURE_CLIENT_SECRET",
        f"postgresql+psycopg2://me:{SECRET}@host/db": "MLFLOW_TRACKING_URI",
        f"https://{SECRET.replace('/', '')}@host/v1": "--key-variable",
        f"hub:https://me:{SECRET}@huggingface.co/a/b": "HF_TOKEN",
        f"https://host/v1?api_key={SECRET}": "--key-variable",
    }.items(),
)
@pytest.mark.parametrize("joined", [True, False])
def test_a_secret_in_an_address_is_refused_and_not_repeated(address, remedy, joined):
    words = ["--seed", "1", *([f"--mirror={address}"] if joined else ["--mirror", address])]
    with pytest.raises(BadInput, match=r"--mirror [a-z0-9+]+://\.\.\.: the address holds a password or a key") as told:
        check_command_line(words)
    assert remedy in str(told.value)
    assert SECRET[:8] not in str(told.value)


def test_other_addresses_are_left_alone():
    check_command_line(
        ["s3://bucket/runs@2026", "s3://bucket?endpoint_override=127.0.0.1:9000&scheme=http", "gs://anonymous@bucket",
         "abfs://container@account.dfs.core.windows.net/x?credential_kind=default", "hdfs://me@host:8020/runs",
         "http://localhost:8000/v1", "http://localhost:8000/v1@x", "file:///a:b@c", "--task.data", "hub:owner/name",
         "--set", "log=/x@y:z@"]
    )  # fmt: skip


def test_a_sweep_refuses_a_mirror_with_a_key_before_anything_is_made(tmp_path):
    refused = sweep_here(
        tmp_path, "--mirror", f"s3://AKIA123:{SECRET}@bucket/runs", "--storage-path", str(tmp_path / "new"), check=False
    )
    assert refused.returncode == 2
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment" in refused.stderr
    assert SECRET not in refused.stdout + refused.stderr
    assert not (tmp_path / "new").exists()


def test_only_plain_http_to_another_machine_is_readable():
    assert in_clear("http://box:8000/v1")
    assert in_clear("http://10.0.0.2/v1")
    assert not any(map(in_clear, ("https://box/v1", "http://localhost:1/v1", "http://127.0.0.9/", "http://[::1]/")))


def test_the_token_of_the_hub_is_not_sent_in_clear_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    for address in ("https://mirror.example", "http://localhost:8080", ""):
        monkeypatch.setenv("HF_ENDPOINT", address)
        check_hub_address()
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example")
    with pytest.raises(BadInput, match=r"^HF_ENDPOINT=http://mirror.example is another machine") as caught:
        check_hub_address()
    assert "hf_planted" not in str(caught.value)
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    check_hub_address()
