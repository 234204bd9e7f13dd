"""The key is sent, where it may be, and never shown."""

import html
import json
import logging
import traceback
from urllib.parse import quote, quote_plus

import pytest

import powercut as pc
from powercut.engines.http.addresses import read_key, sent_unseen, without_key
from tests.engines.fake_server import FakeServer
from tests.engines.http_tools import MODEL, ask, extend, load, rejected


def test_the_key_is_sent_and_never_shown(monkeypatch, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    with FakeServer(MODEL, key="sk-secret") as server:
        assert "POWERCUT_API_KEY" in rejected(server, "asks for a key")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
        assert "sk-other" not in rejected(server, "refuses the key")
        monkeypatch.setenv("POWERCUT_API_KEY", "sk-secret")
        engine = load(server)
        extend(engine, ask(0))
        assert server.headers[-1]["Authorization"] == "Bearer sk-secret"
        server.key = "sk-new"
        with pytest.raises(pc.EngineError, match="refuses the key") as caught:
            extend(engine, ask(0))
    api = engine._pool.servers[0].api
    shown = [str(caught.value), repr(engine), repr(vars(engine)), repr(api), engine.describe(), caplog.text]
    shown += capsys.readouterr()
    assert not any("sk-secret" in text or "sk-other" in text for text in shown)


@pytest.mark.parametrize("around", ["{}\n", "{}\r\n", " {}\t", "{}"])
def test_what_is_around_the_key_is_stripped(monkeypatch, around):
    monkeypatch.setenv("POWERCUT_API_KEY", around.format("sk-secret"))
    assert read_key("https://example.org") == "sk-secret"


@pytest.mark.parametrize("name", ["POWERCUT_API_KEY", "OPENAI_API_KEY"])
@pytest.mark.parametrize("key", ["sk-\nsecret", "sk-sécret", "sk-\x00secret", "sk-\x7fsecret", "sk\u2028secret"])
def test_a_key_that_no_header_can_carry_is_refused(monkeypatch, name, key):
    if "\x00" in key:
        monkeypatch.setattr("os.environ", {name: key})
    else:
        monkeypatch.setenv(name, key)
    with pytest.raises(pc.SettingError, match=f"{name} has a character that no key has") as caught:
        pc.load("https://example.org/v1")
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("key", ["", " ", "\n"])
def test_an_empty_key_is_none(monkeypatch, key):
    monkeypatch.setenv("POWERCUT_API_KEY", key)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    assert read_key("https://example.org") == "sk-other"


@pytest.mark.parametrize(
    ("root", "unseen"),
    [
        ("https://example.org", True),
        ("http://localhost:8000", True),
        ("http://127.0.0.1:8000", True),
        ("http://127.8.9.1", True),
        ("http://[::1]:8000", True),
        ("http://example.org", False),
        ("http://10.0.0.1:8000", False),
        ("http://192.168.1.2", False),
        ("http://0.0.0.0:8000", False),
        ("http://localhost.example.org", False),
        ("http://127.0.0.1.example.org", False),
    ],
)
def test_a_key_for_servers_elsewhere_is_not_sent_in_the_clear(monkeypatch, root, unseen):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    assert sent_unseen(root) == unseen
    assert read_key(root) == ("sk-other" if unseen else None)
    monkeypatch.setenv("POWERCUT_API_KEY", "sk-secret")
    assert read_key(root) == "sk-secret"


@pytest.mark.parametrize("key", ["sk-SECRET-0123456789", 'sk"SECRET\\9', "sk  SECRET", "sk-SECRET+/=="])
@pytest.mark.parametrize("before", [0, 100, 275, 290])
def test_a_server_that_echoes_the_key_has_it_blacked_out(monkeypatch, key, before):
    """Near the place where messages are cut, and quoted in several ways."""
    monkeypatch.setenv("POWERCUT_API_KEY", key)

    def echo(path, body):
        said = {"detail": ["x" * before, f"Bearer {key}", {"header": repr(key)}]}
        data = json.dumps(said).encode()
        return f"HTTP/1.1 400 X\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data

    with FakeServer(MODEL, instead=echo) as server:
        text = rejected(server, ".")
    assert "SECRET" not in text
    assert key[:5] not in text


SECRET = "sk-S3CRET\"'\\ <&>+/%="
QUOTED = {
    "itself": str,
    "repr": repr,
    "repr of repr": lambda key: repr(repr(key)),
    "bytes": lambda key: repr(key.encode()),
    "JSON": json.dumps,
    "JSON in JSON": lambda key: json.dumps(json.dumps(key)),
    "JSON by code": lambda key: "".join(c if c.isalnum() else f"\\u{ord(c):04x}" for c in key),
    "HTML": html.escape,
    "HTML by code": lambda key: "".join(c if c.isalnum() else f"&#{ord(c)};" for c in key),
    "URL": quote,
    "URL, all of it": lambda key: quote(key, safe="").lower().replace("sk-s3cret", "sk-S3CRET"),
    "form": quote_plus,
}


@pytest.mark.parametrize("how", QUOTED)
def test_however_the_key_is_quoted(how):
    assert without_key(f"Bearer {QUOTED[how](SECRET)} was refused", SECRET).replace("'", "").replace('"', "").replace(
        "\\", ""
    ) in ("Bearer *** was refused", "Bearer b*** was refused")


def test_a_key_that_is_no_pattern():
    assert without_key("a.b* axb* (", "a.b*") == "*** axb* ("
    assert without_key("a\\b ((", "((") == "a\\b ***"


def test_a_key_too_long_is_refused(monkeypatch):
    monkeypatch.setenv("POWERCUT_API_KEY", "sk-secret" * 1000)
    with pytest.raises(pc.SettingError, match="POWERCUT_API_KEY has 9000 characters") as caught:
        pc.load("https://example.org/v1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "nonsense://x"])
def test_no_proxy_sees_what_is_sent_to_this_machine(monkeypatch, name, proxy):
    monkeypatch.setenv(name, proxy)
    with FakeServer(MODEL) as server:
        assert load(server).name == "fake"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP_PROXY", "nonsense://u:secret@x"),
        ("ALL_PROXY", "socks9://u:secret@x"),
        ("SSL_CERT_FILE", "/nowhere"),
    ],
)
def test_an_environment_that_cannot_be_used_is_one_line(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(pc.SettingError, match=r"the environment names cannot be used .*: correct HTTP_PROXY") as caught:
        pc.load("http://example.org/v1")
    assert str(caught.value).isprintable()
    assert "secret" not in str(caught.value)


def test_nothing_of_an_answer_shows_the_key(monkeypatch):
    """Not even a traceback: a value of the wrong type is quoted in the error."""
    monkeypatch.setenv("POWERCUT_API_KEY", "sk-secret")

    def echo(event):
        body = json.loads(event.removeprefix("data: "))
        return f"data: {json.dumps(body | {'usage': {'completion_tokens': 'sk-secret'}})}\n\n"

    with (
        FakeServer(MODEL, spoil=echo) as server,
        pytest.raises(pc.EngineError, match=r"'\*\*\*' is no count") as caught,
    ):
        load(server)
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_what_could_move_a_cursor_is_left_out():
    assert without_key("a\x1b[2Jb\x07\u202e", None) == "a [2Jb  "
