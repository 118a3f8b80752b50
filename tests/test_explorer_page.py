"The server of `danet explore`, asked as no browser would ask it."

import http.client
import json
from base64 import b64decode, b64encode
from pathlib import Path
from threading import Barrier, Thread

import pytest

from danet_nb.danet import DANet
from danet_nb.explorer import Bay, View, explore_bay
from danet_nb.explorer_page import KEPT, LARGEST, Gallery, open_server
from danet_nb.published import load_danet

NETWORK = Path(__file__).parents[1] / "data/networks/far-both"
SOURCE = {"kind": "bay", "world": "far", "seed": 3}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server():
    "A server in a thread of its own."
    gallery = Gallery(load_danet(NETWORK))
    server = open_server(gallery)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def ask(server, method, path, body=None, headers=None):
    "Status, headers and content."
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, response.headers, content


def post(server, path, question, **headers):
    status, _, content = ask(server, "POST", path, json.dumps(question), {**JSON, **headers})
    return status, content


def look(server, **view):
    status, content = post(server, "/look", {"source": SOURCE, "view": view})
    assert status == 200, content
    return json.loads(content)


def test_bound_to_this_machine(server):
    assert server.server_address[0] == "127.0.0.1"


def test_page_names_no_other_host(server):
    "Its parts are its own, and a header forbids all others."
    for path in ("/", "/page.css", "/page.js", "/picture.js"):
        status, headers, content = ask(server, "GET", path)
        assert status == 200 and b"http:" not in content and b"https:" not in content
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
    for path in ("/nothing", "/../settings.ini", "/picture.js/..", "//etc/passwd"):
        assert ask(server, "GET", path)[0] == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Content-Type": "text/plain"},  # what another page may send without asking
    ],
)
def test_strangers_are_refused(server, headers):
    question = {"source": SOURCE, "view": {}}
    assert post(server, "/look", question)[0] == 200
    status, content = post(server, "/look", question, **headers)
    assert status == 403 and content.startswith(b"this page answers")
    if "Host" in headers:
        assert ask(server, "GET", "/", headers=headers)[0] == 403


@pytest.mark.parametrize(
    "question",
    [
        [],
        None,
        3,
        {},
        {"source": SOURCE},
        {"source": SOURCE, "view": []},
        {"source": SOURCE, "view": {"zoom": 1}},
        {"source": SOURCE, "view": {"row": "0"}},
        {"source": SOURCE, "view": {"row": 1.5}},
        {"source": SOURCE, "view": {"log": 1}},
        {"source": SOURCE, "view": {"attention": "both"}},
        {"source": SOURCE, "view": {"opacity": float("nan")}},
        {"source": SOURCE, "view": {"temperature": float("inf")}},
        {"source": {"kind": "given"}, "view": {}},
        {"source": {"kind": "upload", "id": ["a"]}, "view": {}},
        {"source": {"kind": "upload"}, "view": {}},
        {"source": {"kind": "file", "path": "/etc/passwd"}, "view": {}},
        {"source": {**SOURCE, "seed": -1}, "view": {}},
        {"source": {**SOURCE, "seed": "1"}, "view": {}},
        {"source": {**SOURCE, "lamp": "blue"}, "view": {}},
        {"source": {**SOURCE, "size": 9999}, "view": {}},
    ],
)
def test_nonsense_gets_a_sentence(server, question):
    "Status 400 and words, never a traceback; the next question is answered."
    status, content = post(server, "/look", question)
    assert status == 400 and len(content.split()) > 3, content
    assert look(server)["words"]


def test_questions_that_are_no_json(server):
    for body, headers in (
        (b"{", JSON),
        (b"\xff\xfe", JSON),
        (b"", {**JSON, "Content-Length": str(LARGEST + 1)}),
        (b"", {**JSON, "Content-Length": "many"}),
        (b"", {**JSON, "Content-Length": "-1"}),
    ):
        assert ask(server, "POST", "/look", body, headers)[0] == 400
    for path in ("/", "/nothing"):
        assert post(server, path, {"source": SOURCE, "view": {}})[0] == 404


def test_views_outside_become_the_nearest(server):
    assert look(server, row=10**9, column=-5)["view"] | {"row": 11, "column": 0} == {
        **look(server)["view"],
        "row": 11,
        "column": 0,
    }
    assert look(server, temperature=1e-9)["view"]["temperature"] > 0


def test_uploads(server):
    "Bytes that are no image; one that is, and its second arrival."
    bad = {"name": "a.png", "data": b64encode(b"\x89PNG\r\n\x1a\n" + bytes(50)).decode()}
    status, content = post(server, "/upload", bad)
    assert status == 400 and content.startswith(b"a.png: damaged")
    assert post(server, "/upload", {"name": "a.png", "data": "%%%"})[0] == 400
    png = look(server)["picture"]
    status, content = post(server, "/upload", {"name": "<b>.png", "data": png})
    again = post(server, "/upload", {"name": "other.png", "data": png})[1]
    assert status == 200 and content == again
    answer = post(server, "/look", {"source": json.loads(content), "view": {}})
    assert answer[0] == 200 and json.loads(answer[1])["rows"] == 48  # 384 pixels


def test_many_at_once(server):
    "Questions from several tabs, each answered as if it were alone."
    opened = explore_bay(load_danet(NETWORK), Bay(seed=3))
    wrong, start = [], Barrier(6)

    def tab(row):
        start.wait()
        for column in range(3):
            answer = look(server, row=row, column=column, position_gate=bool(row % 2))
            expected = opened.picture(View(**answer["view"]))
            if b64decode(answer["picture"].partition(",")[2]) != expected:
                wrong.append((row, column))

    tabs = [Thread(target=tab, args=(row,)) for row in range(6)]
    for thread in tabs:
        thread.start()
    for thread in tabs:
        thread.join()
    assert not wrong


def test_names_are_escaped():
    "Class names come from files."
    model = DANet(2, "small", channels=8, classes=("<script>alert(1)</script>", "b"))
    server = open_server(Gallery(model))
    Thread(target=server.serve_forever, daemon=True).start()
    content = ask(server, "GET", "/")[2]
    server.shutdown()
    server.server_close()
    assert b"<script>alert" not in content and b"&lt;script&gt;alert" in content


def test_few_images_stay_open(server):
    for seed in range(KEPT + 3):
        post(server, "/look", {"source": {**SOURCE, "seed": seed}, "view": {}})
    gallery = server.RequestHandlerClass.args[0]
    assert len(gallery.kept) <= KEPT
