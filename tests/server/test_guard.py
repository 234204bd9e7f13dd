"""Keys, origins, and the size of what is sent."""

import gzip
import socket

import pytest

from tests.server.serving import serving, web

CHAT = {"messages": [{"role": "user", "content": "abc"}]}
ORIGIN = "https://page.example"


def test_key_checked_on_every_route_but_health():
    with serving(keys=["first", "sécond"]) as served:
        paths = web.get(f"{served.root}/openapi.json", headers={"Authorization": "Bearer first"}).json()["paths"]
        for path, ways in {**paths, "/nowhere": {"get": {}}, "//v1/models": {"get": {}}}.items():
            for way in ways:
                for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer"}):
                    answer = web.request(way, served.root + path, headers=headers, json=CHAT if way == "post" else None)
                    assert answer.status_code == (200 if path == "/health" else 401), path
                    if path != "/health":
                        assert answer.json()["error"]["code"] == "invalid_api_key"
        for key in ("first", "sécond"):
            for scheme in ("Bearer", "bearer"):
                headers = {"Authorization": f"{scheme} {key}".encode()}
                assert web.get(f"{served.url}/models", headers=headers).status_code == 200


def test_cors_is_off_by_default(served):
    answer = web.get(f"{served.url}/models", headers={"Origin": ORIGIN})
    assert "access-control-allow-origin" not in answer.headers


def test_cors_with_right_preflight():
    """What a browser sends before a page's fetch, and with it."""
    with serving(keys=["k"], origins=[ORIGIN]) as served:
        asked = {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        before = web.options(f"{served.url}/chat/completions", headers={"Origin": ORIGIN, **asked})
        assert before.status_code == 200
        assert before.headers["access-control-allow-origin"] == ORIGIN
        assert "authorization" in before.headers["access-control-allow-headers"]
        assert "POST" in before.headers["access-control-allow-methods"]
        for headers, status in (({"Authorization": "Bearer k"}, 200), ({}, 401)):
            answer = web.post(f"{served.url}/chat/completions", headers={"Origin": ORIGIN, **headers}, json=CHAT)
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == ORIGIN
        strange = web.options(f"{served.url}/models", headers={"Origin": "https://other.example", **asked})
        assert "access-control-allow-origin" not in strange.headers


def test_body_size_is_bounded():
    with serving(most_bytes=2000) as served:
        assert web.post(f"{served.url}/chat/completions", json=CHAT).status_code == 200
        for content in (b"x" * 2001, (b"x" * 500 for _ in range(5))):  # with its length, and in pieces
            answer = web.post(f"{served.url}/chat/completions", content=content)
            assert answer.status_code == 413
            assert answer.json()["error"]["code"] == "request_too_large"


def test_what_a_body_lacks_is_said(served):
    url, json = f"{served.url}/chat/completions", {"Content-Type": "application/json"}
    for content, headers, status, said in (
        (b'{"messages": [],}', json, 400, "the body is no JSON: Expecting property name enclosed in double quotes"),
        (b'{"messages": []}', {}, 400, "sent with Content-Type: application/json"),
        (gzip.compress(b"{}"), {**json, "Content-Encoding": "gzip"}, 415, "Content-Encoding is gzip"),
    ):
        answer = web.post(url, content=content, headers=headers)
        assert answer.status_code == status
        assert said in answer.json()["error"]["message"]


@pytest.mark.parametrize(("field", "value"), [("stop", b'"\\ud800"'), ("chat_template_kwargs", b'{"a": "\\ud800"}')])
def test_half_a_character_is_refused_by_its_field(served, field, value):
    content = b'{"messages": [{"role": "user", "content": "a"}], "%s": %s}' % (field.encode(), value)
    answer = web.post(f"{served.url}/chat/completions", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)


def test_head_and_addresses_before_the_path(served):
    found = web.request("HEAD", f"{served.root}/health")
    assert (found.status_code, found.content) == (200, b"")
    assert web.request("HEAD", f"{served.url}/chat/completions").status_code == 405
    with socket.create_connection(("127.0.0.1", int(served.root.rsplit(":", 1)[1]))) as connection:
        connection.sendall(b"GET http://proxied.example:80/v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"messages": NaN}', b"[" * 100_000),
        *(b'{"messages":[{"role":"user","content":"\\ud800"}]}', b'{"model":"\\ud800","messages":[]}'),
        b'{"messages":[{"role":"user","content":"a"}],"alpha":' + b"9" * 5000 + b"}",
        b'{"messages":[{"role":"user","content":"a"}],"seed":' + b"9" * 400 + b"}",
        b'{"messages":[{"role":"user","content":"a"}],"deadline_s":1e999}',
        b'{"messages":[{"role":"user","content":"a"}],"' + b"x" * 5000 + b'":1}',
    ],
)
def test_what_is_no_request_is_a_400(served, content):
    headers = {"Content-Type": "application/json"}
    answer = web.post(f"{served.url}/chat/completions", content=content, headers=headers)
    assert answer.status_code in (400, 404), answer.text
    assert "message" in answer.json()["error"]
