"""A client of chat endpoints against a real server: kept answers, faults, the key, the budget."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from sweeps.commands.endpoint.answer_cache import FILE
from sweeps.commands.endpoint.client import NO_KEY, Endpoint
from sweeps.commands.endpoint.errors import EndpointError, OverBudget
from tests.support.driving import environment
from tests.support.endpoint_kit import CLIENT, KEY, Server, echo, reasoner


def talk(number):
    return [{"role": "user", "content": f"question {number}"}]


@pytest.fixture
def server():
    made = Server(says=echo)
    yield made
    made.close()


@pytest.fixture
def opened(tmp_path, server, monkeypatch):
    """Endpoints on the server, closed in the end."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made = []

    def open_one(**fields):
        given = {"url": server.url, "model": "mini", "folder": tmp_path / "kept", "max_tokens": 50} | fields
        made.append(Endpoint(**given))
        return made[-1]

    yield open_one
    for one in made:
        one.close()


def test_a_model_answers_and_tokens_are_counted(opened, server):
    """The server's own model, greedily, without a key: what is asked is in the body, what it said comes back."""
    server.says, server.base = None, reasoner()
    reply = opened(max_tokens=24).ask([{"role": "system", "content": "is x"}, {"role": "user", "content": "snow?"}])
    assert re.fullmatch(r" (salt|snow|water) is white and cold\..*", reply.text)
    assert (reply.cached, reply.truncated) == (False, False)
    assert reply.prompt_tokens > 5
    assert reply.completion_tokens == len(server.base.tokenizer(reply.text).input_ids)
    body = server.chats[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("mini", 0.0, 24)
    assert [one["content"] for one in body["messages"]] == ["is x", "snow?"]
    assert opened(max_tokens=4).ask(talk(0)).truncated


def test_headers_for_openai_go_to_no_other_server(opened, server, monkeypatch):
    """The openai package would send them to every server."""
    planted = {"OPENAI_ORG_ID": "org-7", "OPENAI_PROJECT_ID": "proj-7", "OPENAI_CUSTOM_HEADERS": f"X-Gateway: {KEY}"}
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    opened().ask(talk(0))
    assert not {"Openai-Organization", "Openai-Project", "X-Gateway"} & server.headers[0].keys()
    assert {name: os.environ[name] for name in planted} == planted
    own = opened(url="https://api.openai.com/v1")._client
    assert (own.organization, own.default_headers["X-Gateway"]) == ("org-7", KEY)


def test_what_was_asked_before_is_not_asked_again(opened, server):
    first = opened().ask_all([talk(n) for n in (0, 1, 2, 1)])
    assert [reply.text for reply in first] == [f"to question {n}: well" for n in (0, 1, 2, 1)]
    assert len(server.chats) == 3, "equal questions of one request are one question"
    again = opened().ask_all([talk(n) for n in (2, 0, 1)])
    assert [reply.text for reply in again] == [f"to question {n}: well" for n in (2, 0, 1)]
    assert all(reply.cached for reply in again)
    assert len(server.chats) == 3
    for other in ({"temperature": 0.5}, {"max_tokens": 51}, {"url": server.url.replace("127.0.0.1", "localhost")}):
        assert not opened(**other).ask(talk(0)).cached, f"{other} is another question"
    assert not opened().ask(talk(0), sample=1).cached, "another sample of the same question"
    assert len(server.chats) == 7
    assert opened(url=server.url + "/").ask(talk(0)).cached


def test_nothing_is_asked_of_the_network_if_all_is_kept(opened, server):
    opened().ask(talk(0))
    server.close()
    assert opened().ask(talk(0)).text == "to question 0: well"


@pytest.mark.parametrize("fault", [429, 500, 503, "hang up"])
def test_what_may_pass_is_tried_again(opened, server, fault):
    server.faults = [fault, fault]
    assert opened().ask(talk(0)).text == "to question 0: well"
    assert len(server.chats) == 3


def test_a_fault_that_stays_ends_it_and_keeps_the_others(opened, server):
    endpoint = opened(max_retries=1)
    endpoint.ask(talk(0))
    server.faults = [429] * 2
    with pytest.raises(EndpointError, match=r"limits the rate \(429: planted 429.*fewer workers.*continues") as told:
        endpoint.ask_all([talk(0), talk(1)])
    assert "\n" not in str(told.value)
    server.faults = [500] * 2
    with pytest.raises(EndpointError, match=r"failed \(500: planted 500"):
        endpoint.ask(talk(1))
    before = len(server.chats)
    assert [reply.cached for reply in endpoint.ask_all([talk(0), talk(1)])] == [True, False]
    assert len(server.chats) == before + 1


def test_requests_go_side_by_side_but_no_more_than_asked_for(opened, server):
    server.pause_s = 0.2
    texts = [reply.text for reply in opened().ask_all([talk(n) for n in range(12)], workers=4)]
    assert texts == [f"to question {n}: well" for n in range(12)]
    assert server.most_under_way == 4


def test_a_server_that_is_not_there_is_told_at_once(opened, server):
    endpoint = opened()
    server.close()
    with pytest.raises(EndpointError, match=r"no answer from http://127.*/v1 \(ConnectError\): is a server running"):
        endpoint.ask(talk(0))
    assert not server.chats


def test_an_unknown_model_names_those_there_are(opened):
    with pytest.raises(EndpointError, match=r"has no model 'maxi'; it has mini"):
        opened(model="maxi").ask(talk(0))


def test_another_kind_of_server(opened, server):
    with pytest.raises(EndpointError, match=r"answered 404: no such page; most addresses end in /v1"):
        opened(url=server.url.removesuffix("/v1"), max_retries=0).ask(talk(0))


def test_no_key_and_a_wrong_one(opened, server, monkeypatch):
    server.key = KEY
    with pytest.raises(EndpointError, match=r"401: the server requires a key; name its .* by --key-variable"):
        opened().ask(talk(0))
    with pytest.raises(EndpointError, match="answered 401: MINE is not set, and the server requires a key"):
        opened(key_variable="MINE").ask(talk(0))
    monkeypatch.setenv("MINE", "sk-wrong-9876")
    with pytest.raises(EndpointError, match="401: MINE is refused; set it to a valid key") as told:
        opened(key_variable="MINE").ask(talk(0))
    assert "9876" not in f"{told.value!r} {told.value.__cause__!r}"
    assert not server.chats, "one request to /models is enough to know"
    monkeypatch.setenv("MINE", KEY)
    assert opened(key_variable="MINE").ask(talk(0)).text
    assert server.headers[-1]["Authorization"] == f"Bearer {KEY}"


def test_the_key_is_nowhere_to_be_found(tmp_path, server):
    """Not in the file, the output or the package's debug log, even though the server sends it back in its errors."""
    server.key, server.faults = KEY, [429, 500, 400]
    env = environment() | {"OPENAI_API_KEY": KEY, "OPENAI_LOG": "debug"}
    command = [sys.executable, "-c", CLIENT, server.url, str(tmp_path), "2"]
    failed = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert failed.returncode != 0
    assert "planted 400 you sent Bearer ***" in failed.stderr
    worked = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert worked.returncode == 0, worked.stderr
    assert "HTTP Response: POST 200" in worked.stderr, "the log is on"
    assert server.headers[-1]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in failed.stdout + failed.stderr + worked.stdout + worked.stderr
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in kept] == [FILE]
    assert KEY.encode() not in kept[0].read_bytes()


def test_the_key_is_not_in_the_value_either(opened, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert KEY not in repr(opened(key_variable="OPENAI_API_KEY"))
    with pytest.raises(EndpointError, match="without a password") as told:
        opened(url="http://me:secret@localhost/v1")
    assert "secret" not in str(told.value)


def test_a_key_goes_to_the_server_that_it_belongs_to(opened, server, monkeypatch):
    """OpenAI's key to OpenAI alone, another one where it is named, and none over plain http to another machine."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    opened().ask(talk(0))
    assert KEY not in server.headers[-1]["Authorization"]
    assert opened(url="https://api.openai.com/v1")._client.api_key == KEY
    for other in ("https://api.openai.com.example/v1", "https://openai.example/v1", "http://192.168.1.9:8000/v1"):
        assert opened(url=other)._client.api_key == NO_KEY
    assert opened(url="https://box.example/v1", key_variable="OPENAI_API_KEY")._client.api_key == KEY
    for url in ("http://box.example:8000/v1", "http://192.168.1.9/v1", "http://localhost.example/v1"):
        with pytest.raises(EndpointError, match="plain http would show the key in OPENAI_API_KEY to the network; give"):
            opened(url=url, key_variable="OPENAI_API_KEY")
    for url in ("http://localhost:1/v1", "http://127.0.0.1/v1", "http://[::1]:8000/v1"):
        assert opened(url=url, key_variable="OPENAI_API_KEY")._client.api_key == KEY


def test_prices(opened, server):
    """Two questions of 2 words, answers of 4: (2*2*$3 + 2*4*$10) / 1e6; kept answers cost nothing more."""
    endpoint = opened(price_in=3.0, price_out=10.0)
    assert endpoint.spent() == 0
    endpoint.ask_all([talk(0), talk(1)])
    assert endpoint.spent() == pytest.approx(92e-6)
    endpoint.ask_all([talk(0), talk(1)])
    assert endpoint.spent() == pytest.approx(92e-6)
    assert opened(price_in=3.0, price_out=10.0).spent() == pytest.approx(92e-6), "of earlier runs too"
    assert opened(model="other", price_in=3.0, price_out=10.0).spent() == 0, "but of this model alone"
    assert opened().spent() is None
    server.usage = False
    endpoint.ask(talk(2))
    most = (len("question 2") + 16) * 3 + 50 * 10
    assert endpoint.spent() == pytest.approx(92e-6 + most / 1e6), "a server that does not count: the most it can be"


def test_the_budget_is_not_passed(opened, server):
    """An answer costs 2*$100 + 4*$1000 a million = $0.0042, and at most (26*$100 + 50*$1000) / 1e6 = $0.0526."""
    prices = {"price_in": 100.0, "price_out": 1000.0}
    server.pause_s = 0.05
    endpoint = opened(**prices, max_cost=0.0526 + 5 * 0.0042)
    with pytest.raises(OverBudget, match=r"\$0\.0252 is spent on mini, .*could cost \$0\.0526.*\$0\.0736; raise it"):
        endpoint.ask_all([talk(n) for n in range(10)], workers=4)
    assert len(server.chats) == 6, "five leave room for a sixth, and requests under way wait for one another"
    assert endpoint.spent() == pytest.approx(6 * 0.0042)
    before = len(server.chats)
    with pytest.raises(OverBudget):
        opened(**prices, max_cost=0.0526 + 5 * 0.0042).ask(talk(9))
    assert len(server.chats) == before, "what an earlier run has spent counts"
    assert opened(**prices, max_cost=1.0).ask_all([talk(n) for n in range(10)])
    assert len(server.chats) == 10
    with pytest.raises(EndpointError, match="needs both prices"):
        opened(max_cost=1.0)
    for amount in ({"price_in": -1.0}, {"max_cost": float("nan")}, {"price_out": float("inf")}):
        with pytest.raises(EndpointError, match=rf"{next(iter(amount))} is .*; give dollars of at least 0"):
            opened(**(prices | {"max_cost": 1.0} | amount))
