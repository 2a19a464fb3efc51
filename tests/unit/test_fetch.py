"""The http(s) client of the worker, against real servers on this machine."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from urllib3.exceptions import HTTPError

from transcoding import web
from transcoding.errors import Failure, TaskFailedError
from transcoding.pipeline import fetch
from transcoding.pipeline.fetch import HttpSource
from transcoding.web import IPAddress, Url, is_public

BODY = bytes(range(256)) * 12_000  # 3 MB, three chunks
LOOPBACK = ip_address("127.0.0.1")

Request = http.server.BaseHTTPRequestHandler
Respond = Callable[[Request], None]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "RETRY_PAUSES", (0.0, 0.0, 0.0))


@contextmanager
def serving(respond: Respond, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Answers every GET with `respond` on a port of 127.0.0.1."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            respond(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # clients that hang up are what is tested

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def source(url: str, **options: object) -> HttpSource:
    settings = {
        "max_bytes": 10**9,
        "deadline": time.monotonic() + 20,
        "resolve": lambda _host: [LOOPBACK],
        "is_allowed": lambda _address: True,
    }
    return HttpSource(url, **(settings | options))  # type: ignore[arg-type]


def fetch_all(url: str, **options: object) -> bytes:
    with source(url, **options) as stream:
        pieces = []
        while piece := stream.read(1_000_000):
            pieces.append(piece)
        assert all(len(piece) == 1_000_000 for piece in pieces[:-1])
        return b"".join(pieces)


def failure_of(url: str, **options: object) -> TaskFailedError:
    with pytest.raises(TaskFailedError) as caught:
        fetch_all(url, **options)
    return caught.value


def answer(body: bytes = BODY, status: int = 200, **headers: str) -> Respond:
    def respond(request: Request) -> None:
        request.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return respond


# --- addresses -------------------------------------------------------------------------------------------

REFUSED = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.254", "127.0.0.1", "127.255.255.254",
    "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.0.192",
    "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "100::1", "2001::1", "2001:0:7f00:1::",
    "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "4000::1", "5f00::1", "fc00::1",
    "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1", "64:ff9b::808:808",
          "::ffff:8.8.8.8"]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_special_addresses_are_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_addresses_of_the_internet_are_public(text: str) -> None:
    assert is_public(ip_address(text))


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_an_ipv4_address_inside_an_ipv6_one_is_what_counts(address: IPv4Address) -> None:
    for prefix in ("::ffff:0:0", "64:ff9b::"):
        assert is_public(IPv6Address(int(IPv6Address(prefix)) + int(address))) == is_public(address)
    for prefix, shift in (("2002::", 80), ("2001::", 0), ("::", 0)):
        assert not is_public(IPv6Address(int(IPv6Address(prefix)) + (int(address) << shift)))


SPECIAL_NETWORKS = [
    *map(IPv4Network, ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
                       "172.16.0.0/12", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3")),
    *map(IPv6Network, ("::/32", "fc00::/7", "fe80::/9", "ff00::/8", "2001::/23", "2001:db8::/32",
                       "2002::/16")),
]  # fmt: skip


@settings(deadline=None)
@given(st.sampled_from(SPECIAL_NETWORKS), st.data())
def test_no_address_of_a_special_network_is_public(
    network: IPv4Network | IPv6Network, data: st.DataObject
) -> None:
    size = 2 ** (network.max_prefixlen - network.prefixlen)
    address = network[data.draw(st.integers(0, size - 1))]
    embedded = isinstance(address, IPv6Address) and address.ipv4_mapped
    assert embedded or not is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://localhost/", "http://LOCALHOST./", "http://2130706433/", "http://0x7f.1/",
        "http://0177.0.0.1/", "http://127.1/", "http://0/", "http://[::1]/", "http://[::ffff:7f00:1]/",
        "http://[::]/", "http://①②⑦.⓪.⓪.①/", "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/", "https://10.0.0.1:8443/",
    ],
)  # fmt: skip
def test_every_spelling_of_an_inner_address_is_refused(url: str) -> None:
    error = failure_of(url, resolve=web.resolve, is_allowed=is_public)
    assert error.code is Failure.SOURCE_ADDRESS_REFUSED


@pytest.mark.parametrize(
    "url",
    [
        "", "/", "http://", "http:///x", "http://:80/", "http://./", "http://a..b/", "http://[::1/", "http://[x]/",
        "http://a:99999/", "http://a:b/", "http://a b/", "http://a%00b/", "http://a\\@b/", "http://%31/",
        "http://user@example.com/", "http://user:secret@example.com/", "http://@example.com/",
        "file:///etc/passwd", "ftp://example.com/x", "gopher://example.com/", "s3://bucket/key",
        f"http://{'x' * 64}.com/", "concat:http://example.com/", "javascript:0",
    ],
)  # fmt: skip
def test_urls_of_other_forms_are_refused_without_looking_anything_up(url: str) -> None:
    def resolve(host: str) -> list[IPAddress]:
        pytest.fail(f"looked up {host!r}")

    assert failure_of(url, resolve=resolve).code is Failure.SOURCE_ADDRESS_REFUSED


@pytest.mark.parametrize("answers", [[], ["8.8.8.8", "127.0.0.1"], ["2606:4700::1111", "fe80::1"]])
def test_a_host_is_refused_unless_all_of_its_addresses_are_public(answers: list[str]) -> None:
    error = failure_of(
        "http://example.test/", resolve=lambda _: [ip_address(a) for a in answers], is_allowed=is_public
    )
    assert error.code is Failure.SOURCE_ADDRESS_REFUSED
    assert "127" not in error.info


def test_a_refusal_does_not_tell_where_a_name_leads() -> None:
    error = failure_of(
        "http://inner.test/", resolve=lambda _: [ip_address("10.20.30.40")], is_allowed=is_public
    )
    assert "10.20" not in error.info
    assert "inner.test" in error.info


def test_the_checked_address_is_the_one_connected_to() -> None:
    """A name that is rebound between the check and the connection leads nowhere else."""
    lookups = cycle([[LOOPBACK], [ip_address("127.0.0.2")]])
    checked = []

    def is_allowed(address: IPAddress) -> bool:
        checked.append(address)
        return address == LOOPBACK

    seen: list[tuple[str, str]] = []

    def respond(request: Request) -> None:
        seen.append((request.connection.getsockname()[0], request.headers["Host"]))
        answer(b"x")(request)

    with serving(respond) as port:
        url = f"http://rebinding.test:{port}/"
        assert fetch_all(url, resolve=lambda _: next(lookups), is_allowed=is_allowed) == b"x"
        assert checked == [LOOPBACK]
        assert seen == [("127.0.0.1", f"rebinding.test:{port}")]
        assert failure_of(url, resolve=lambda _: next(lookups), is_allowed=is_allowed).code is (
            Failure.SOURCE_ADDRESS_REFUSED
        )
        assert len(seen) == 1


def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    with serving(answer(b"x")) as port:
        addresses = [ip_address("127.0.0.9"), LOOPBACK]
        assert fetch_all(f"http://two.test:{port}/", resolve=lambda _: addresses) == b"x"


# --- requests --------------------------------------------------------------------------------------------


def test_a_whole_file_comes_through_with_its_length() -> None:
    with serving(answer()) as port, source(f"http://media.test:{port}/a.mp4") as stream:
        assert stream.length == len(BODY)
        assert stream.read(1000) == BODY[:1000]
        assert stream.read(10**9) == BODY[1000:]
        assert stream.read(1) == b""
        assert stream.offset == len(BODY)


def test_a_chunked_body_has_no_declared_length() -> None:
    def respond(request: Request) -> None:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for at in range(0, len(BODY), 100_000):
            piece = BODY[at : at + 100_000]
            request.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        request.wfile.write(b"0\r\n\r\n")

    with serving(respond) as port:
        with source(f"http://media.test:{port}/") as stream:
            assert stream.length is None
        assert fetch_all(f"http://media.test:{port}/") == BODY


def test_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    seen: list[tuple[str, dict[str, str]]] = []

    def respond(request: Request) -> None:
        seen.append((request.path, dict(request.headers)))
        answer(b"x", Set_Cookie="a=b")(request)

    with serving(respond) as port:
        fetch_all(f"http://BÜCHER.test.:{port}/影片 1%20.mp4?名=a b&X-Amz-Signature=a%2Fb+c#t=3")
    path, headers = seen[0]
    assert path == "/%E5%BD%B1%E7%89%87%201%20.mp4?%E5%90%8D=a%20b&X-Amz-Signature=a%2Fb+c"
    assert headers == {
        "Host": f"xn--bcher-kva.test:{port}",
        "User-Agent": "transcoding/1.0",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://a.test/", "a.test"),
        ("http://a.test:443/", "a.test:443"),
        ("https://a.test:443/", "a.test"),
        ("http://[2606:4700::1111]/", "[2606:4700::1111]"),
        ("http://[2606:4700::1111]:8080/", "[2606:4700::1111]:8080"),
    ],
)
def test_the_host_header_names_the_host_as_the_url_does(url: str, host: str) -> None:
    assert Url.parse(url).authority == host


def test_redirects_are_followed_and_carry_nothing_along() -> None:
    seen: list[str] = []

    def respond(request: Request) -> None:
        seen.append(request.path)
        assert "Cookie" not in request.headers
        targets = {"/a/b": "../c?d", "/c?d": f"//other.test:{port}/é".encode().decode("latin-1")}
        if target := targets.get(request.path):
            answer(b"elsewhere", 302, Location=target, Set_Cookie="a=b")(request)
        else:
            answer(b"here")(request)

    with serving(respond) as port:
        assert fetch_all(f"http://media.test:{port}/a/b") == b"here"
    assert seen == ["/a/b", "/c?d", "/%C3%A9"]


def test_a_server_that_sends_next_to_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "RATE_SECONDS", 0.5)

    def drip(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        for _ in range(1000):
            request.wfile.write(b"x")
            time.sleep(0.05)

    started = time.monotonic()
    with serving(drip) as port:
        error = failure_of(f"http://media.test:{port}/")
    assert error.code is Failure.SOURCE_TIMED_OUT
    assert "too slow" in error.info
    assert time.monotonic() - started < 10


def test_who_reads_slowly_is_not_taken_for_a_slow_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "RATE_SECONDS", 0.2)
    with serving(answer()) as port, source(f"http://media.test:{port}/") as stream:
        received = b""
        while piece := stream.read(300_000):
            received += piece
            time.sleep(0.1)
    assert received == BODY


@pytest.mark.parametrize("endless", [b"HTTP/1.1 100 Continue\r\n\r\n", b"X: y\r\n"])
def test_a_head_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch, endless: bytes) -> None:
    monkeypatch.setattr(fetch, "HEAD_SECONDS", 0.3)

    def respond(request: Request) -> None:
        request.wfile.write(b"" if endless.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\n")
        for _ in range(60):
            request.wfile.write(endless)
            time.sleep(0.2)

    started = time.monotonic()
    with serving(respond) as port:
        error = failure_of(f"http://media.test:{port}/")
    assert error.code in {Failure.SOURCE_UNREACHABLE, Failure.SOURCE_TIMED_OUT}
    assert time.monotonic() - started < 11


def test_a_head_that_is_late_once_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "HEAD_SECONDS", 0.3)
    asked: list[float] = []

    def respond(request: Request) -> None:
        asked.append(time.monotonic())
        if len(asked) == 1:
            time.sleep(1.5)
        answer()(request)

    with serving(respond) as port:
        assert fetch_all(f"http://media.test:{port}/") == BODY
    assert len(asked) == 2


def test_a_body_whose_end_never_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "READ_SECONDS", 0.3)

    def respond(request: Request) -> None:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.write(b"1\r\nx\r\n0\r\n")
        for number in range(60):
            request.wfile.write(b"X-%d: y\r\n" % number)
            time.sleep(0.2)

    started = time.monotonic()
    with serving(respond) as port:
        failure_of(f"http://media.test:{port}/")
    assert time.monotonic() - started < 11


def test_of_many_addresses_only_the_first_are_tried() -> None:
    tried: list[float] = []

    def seconds() -> float:
        tried.append(0.1)
        return 0.1

    addresses = [ip_address(f"127.0.0.{n}") for n in range(2, 200)]
    with pytest.raises((OSError, HTTPError)):
        web.connect(
            Url.parse("http://a.test:9/"),
            seconds=seconds,
            resolve=lambda _: list(addresses),
            is_allowed=lambda _: True,
        )
    assert len(tried) == web.MOST_ADDRESSES


def test_at_most_five_redirects_are_followed() -> None:
    seen: list[str] = []

    def respond(request: Request) -> None:
        seen.append(request.path)
        answer(b"", 307, Location="/again")(request)

    with serving(respond) as port:
        error = failure_of(f"http://media.test:{port}/")
    assert error.code is Failure.SOURCE_UNREACHABLE
    assert "5 times" in error.info
    assert len(seen) == 6


@pytest.mark.parametrize(
    "target",
    ["http://inner.test/", "http://169.254.169.254/", "//127.0.0.1:80/", "file:///etc/passwd", "ftp://a.test/",
     "http://u:p@media.test/", "http://", "data:,x", "http://[::1", "//[x]:y/"],
)  # fmt: skip
def test_a_redirect_leads_nowhere_that_the_url_itself_may_not(target: str) -> None:
    """Only the first lookup is allowed: everything behind it goes through the strict check."""
    hosts = {"media.test": [LOOPBACK], "inner.test": [ip_address("10.0.0.1")]}
    allowed = iter([True])

    with serving(answer(b"", 302, Location=target)) as port:
        error = failure_of(
            f"http://media.test:{port}/",
            resolve=lambda host: hosts.get(host) or web.resolve(host),
            is_allowed=lambda address: next(allowed, False) or is_public(address),
        )
    assert error.code is Failure.SOURCE_ADDRESS_REFUSED


# --- failures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "requests"),
    [
        (404, Failure.SOURCE_NOT_FOUND, 1),
        (410, Failure.SOURCE_NOT_FOUND, 1),
        (401, Failure.SOURCE_FORBIDDEN, 1),
        (403, Failure.SOURCE_FORBIDDEN, 1),
        (407, Failure.SOURCE_FORBIDDEN, 1),
        (451, Failure.SOURCE_FORBIDDEN, 1),
        (400, Failure.SOURCE_UNREACHABLE, 1),
        (206, Failure.SOURCE_UNREACHABLE, 1),
        (302, Failure.SOURCE_UNREACHABLE, 1),
        (429, Failure.SOURCE_UNREACHABLE, 4),
        (500, Failure.SOURCE_UNREACHABLE, 4),
        (503, Failure.SOURCE_UNREACHABLE, 4),
    ],
)
def test_statuses_become_codes(status: int, code: Failure, requests: int) -> None:
    seen: list[int] = []

    def respond(request: Request) -> None:
        seen.append(status)
        answer(b"no", status)(request)

    with serving(respond) as port:
        error = failure_of(f"http://media.test:{port}/")
    assert error.code is code
    assert str(status) in error.info
    assert len(seen) == requests


def test_a_server_error_that_passes_is_no_failure() -> None:
    statuses = iter([503, 502])

    def respond(request: Request) -> None:
        status = next(statuses, 200)
        answer(BODY if status == 200 else b"no", status)(request)

    with serving(respond) as port:
        assert fetch_all(f"http://media.test:{port}/") == BODY


def test_a_connection_refused_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    error = failure_of(f"http://media.test:{port}/")
    assert error.code is Failure.SOURCE_UNREACHABLE
    assert error.info == f"media.test:{port} does not take connections."


@pytest.mark.parametrize(("number", "lookups"), [(socket.EAI_NONAME, 1), (socket.EAI_AGAIN, 4)])
def test_a_name_that_does_not_resolve(number: int, lookups: int) -> None:
    asked: list[str] = []

    def resolve(host: str) -> list[IPAddress]:
        asked.append(host)
        raise socket.gaierror(number, "no")

    error = failure_of("http://nowhere.test/", resolve=resolve)
    assert error.code is Failure.SOURCE_UNREACHABLE
    assert "resolve" in error.info
    assert asked == ["nowhere.test"] * lookups


@pytest.mark.parametrize("declared", [{}, {"Transfer_Encoding": "chunked", "Content_Length": "0"}])
def test_an_empty_source(declared: dict[str, str]) -> None:
    def respond(request: Request) -> None:
        if declared:
            request.send_response(200)
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            request.wfile.write(b"0\r\n\r\n")
        else:
            answer(b"")(request)

    with serving(respond) as port:
        assert failure_of(f"http://media.test:{port}/").code is Failure.SOURCE_EMPTY


def endless(request: Request) -> None:
    request.send_response(200)
    request.send_header("Connection", "close")
    request.end_headers()
    while True:
        request.wfile.write(BODY)


def test_the_limit_holds_for_what_is_declared_and_for_what_comes() -> None:
    with serving(answer()) as port:
        url = f"http://media.test:{port}/"
        assert len(fetch_all(url, max_bytes=len(BODY))) == len(BODY)
        with pytest.raises(TaskFailedError), source(url, max_bytes=len(BODY) - 1):
            pytest.fail("opened")
        assert failure_of(url, max_bytes=len(BODY) - 1).code is Failure.SOURCE_TOO_LARGE
    with serving(endless) as port:
        assert failure_of(f"http://media.test:{port}/", max_bytes=5_000_000).code is Failure.SOURCE_TOO_LARGE


def test_a_compressed_body_is_refused_and_a_coding_that_is_none_is_not() -> None:
    with serving(answer(Content_Encoding="gzip")) as port:
        error = failure_of(f"http://media.test:{port}/")
    assert (error.code, "gzip" in error.info) == (Failure.SOURCE_UNREACHABLE, True)
    with serving(answer(Content_Encoding="aws-chunked")) as port:
        assert fetch_all(f"http://media.test:{port}/") == BODY


# --- breaks and stalls -----------------------------------------------------------------------------------


def breaking(
    breaks: int, *, ranges: bool = True, tags: Iterator[str] | None = None
) -> tuple[Respond, list[str]]:
    """A server that drops the first connections halfway; what it was asked for."""
    asked: list[str] = []
    etags = tags or cycle(['"v1"'])

    def respond(request: Request) -> None:
        wanted = request.headers.get("Range", "")
        asked.append(wanted)
        etag = next(etags)
        matches = ranges and wanted and request.headers["If-Range"] == etag
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if matches else 0
        request.send_response(206 if matches else 200)
        if matches:
            request.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        if ranges:
            request.send_header("ETag", etag)
        request.send_header("Content-Length", str(len(BODY) - start))
        request.end_headers()
        stop = start + 700_000 if len(asked) <= breaks else len(BODY)
        request.wfile.write(BODY[start:stop])
        request.close_connection = True

    return respond, asked


def test_a_broken_transfer_goes_on_where_it_stopped() -> None:
    respond, asked = breaking(3)
    with serving(respond) as port:
        assert fetch_all(f"http://media.test:{port}/") == BODY
    assert asked == ["", "bytes=700000-", "bytes=1400000-", "bytes=2100000-"]


@pytest.mark.parametrize(
    ("breaks", "options"),
    [
        (4, {}),
        (1, {"ranges": False}),
        (1, {"tags": iter(['"v1"', '"v2"'])}),
        (1, {"tags": cycle(['W/"weak"'])}),
    ],
)
def test_a_transfer_that_cannot_go_on_fails(breaks: int, options: dict[str, bool]) -> None:
    respond, _ = breaking(breaks, **options)  # type: ignore[arg-type]
    with serving(respond) as port:
        error = failure_of(f"http://media.test:{port}/")
    assert error.code is Failure.SOURCE_UNREACHABLE
    assert "broke" in error.info


def test_other_bytes_than_those_asked_for_are_not_taken() -> None:
    asked: list[str] = []

    def respond(request: Request) -> None:
        asked.append(request.path)
        if len(asked) == 1:
            answer(BODY[:1000], ETag='"v"', Content_Length=str(len(BODY)))(request)
            request.close_connection = True
        else:
            answer(BODY[900:], 206, ETag='"v"', Content_Range=f"bytes 900-{len(BODY) - 1}/{len(BODY)}")(
                request
            )

    with serving(respond) as port:
        assert failure_of(f"http://media.test:{port}/").code is Failure.SOURCE_UNREACHABLE


@contextmanager
def dripping(first: bytes, drip: bytes) -> Iterator[int]:
    """A server that sends `first`, and then never stops to send a little."""
    stop = threading.Event()

    def drips(connection: socket.socket) -> None:
        with connection:
            connection.recv(10_000)
            connection.sendall(first)
            while not stop.wait(0.02):
                try:
                    connection.sendall(drip)
                except OSError:
                    return

    def accepts() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=drips, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accepts, daemon=True).start()
        yield listener.getsockname()[1]
        stop.set()


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("first", "drip"),
    [
        (b"", b"H"),
        (HEAD, b"x"),
        (HEAD, b"X-A: b\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (HEAD + b"Content-Length: 1000000\r\n\r\n", b"x"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
        (HEAD + b"\r\n", b"x"),
    ],
    ids=["status", "header", "headers", "continue", "body", "chunk size", "body without length"],
)
def test_a_server_that_drips_is_left_at_the_deadline(first: bytes, drip: bytes) -> None:
    started = time.monotonic()
    with dripping(first, drip) as port:
        error = failure_of(f"http://media.test:{port}/", deadline=started + 0.5)
    assert error.code is Failure.SOURCE_TIMED_OUT
    assert time.monotonic() - started < 1.5


def test_a_silent_server_is_left_when_idle_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "IDLE_SECONDS", 0.1)
    with dripping(HEAD + b"Content-Length: 1000\r\n\r\nx", b"") as port:
        error = failure_of(f"http://media.test:{port}/")
    assert error.code is Failure.SOURCE_TIMED_OUT
    assert "sent nothing for 0.1 s" in error.info


def test_another_thread_can_stop_a_read() -> None:
    with dripping(HEAD + b"Content-Length: 1000\r\n\r\nx", b"") as port:
        stream = source(f"http://media.test:{port}/")
        threading.Timer(0.2, stream.abort).start()
        started = time.monotonic()
        with pytest.raises(ValueError, match="closed"), stream:
            stream.read(1000)
        assert time.monotonic() - started < 1.0


def test_who_aborts_while_it_connects_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    with dripping(b"", b"") as port:
        stream = source(f"http://media.test:{port}/")
        connect = fetch.connect

        def connected(*arguments: Any, **options: Any) -> Any:
            connection = connect(*arguments, **options)
            stream.abort()
            return connection

        monkeypatch.setattr(fetch, "connect", connected)
        started = time.monotonic()
        with pytest.raises(ValueError, match="closed"), stream:
            pytest.fail("opened")
        assert time.monotonic() - started < 5


# --- TLS -------------------------------------------------------------------------------------------------


def test_tls_is_checked_against_the_name_in_the_url(
    server_tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, trusted = server_tls
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    with serving(answer(), context) as port:
        untrusted = failure_of(f"https://media.test:{port}/")
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        assert fetch_all(f"https://media.test.:{port}/") == BODY
        assert fetch_all(f"https://127.0.0.1:{port}/") == BODY
        mismatch = failure_of(f"https://other.test:{port}/")
    assert asked == ["media.test", "media.test", None, "other.test"]
    for error in (untrusted, mismatch):
        assert error.code is Failure.SOURCE_UNREACHABLE
        assert "certificate" in error.info


def test_a_tls_server_that_drips_is_left_at_the_deadline(
    server_tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, trusted = server_tls
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))

    def respond(request: Request) -> None:
        request.wfile.write(HEAD + b"\r\n")
        while True:
            request.wfile.write(b"x")
            time.sleep(0.01)

    started = time.monotonic()
    with serving(respond, context) as port:
        error = failure_of(f"https://media.test:{port}/", deadline=started + 0.5)
    assert error.code is Failure.SOURCE_TIMED_OUT
    assert time.monotonic() - started < 1.5


def test_what_speaks_no_tls_says_so() -> None:
    with serving(answer()) as port:
        error = failure_of(f"https://media.test:{port}/")
    assert (error.code, "TLS" in error.info) == (Failure.SOURCE_UNREACHABLE, True)
