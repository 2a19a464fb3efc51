"""Connections to hosts on the public Internet, and to no others.

URLs come from users, of sources and of callbacks, and so does every redirect behind them: the service must
not be made to reach into the network it runs in (server-side request forgery). So a host is resolved here,
refused unless all its addresses are public, and connected to at the very address that was checked; a second,
different DNS answer is never asked for. Proxy settings are ignored, since a proxy would resolve the name
again.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import quote, urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

IPAddress = IPv4Address | IPv6Address

#: Of a host with more addresses than this, the others are not tried.
MOST_ADDRESSES = 4

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
#: Registered as special purpose (RFC 6890) or leading elsewhere (6to4, Teredo), which not every version of
#: `ipaddress` knows; no one publishes anything there.
_NOT_FOR_HOSTS = tuple(map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24"))) + tuple(
    map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
)


class RefusedUrlError(ValueError):
    """A URL that is not connected to; the message is a sentence that says why."""


def is_public(address: IPAddress) -> bool:
    """Return whether an address is on the public Internet; an IPv4 address in an IPv6 one is what counts."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(IPv4Address(address.packed[-4:]))
        if address not in _GLOBAL_UNICAST:
            return False
    if any(address in network for network in _NOT_FOR_HOSTS):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def resolve(host: str) -> list[IPAddress]:
    """Return all addresses of a host name, or of any spelling of one that the system takes (`0x7f.1`)."""
    answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(answer[4][0]) for answer in answers))


@dataclass(frozen=True, slots=True)
class Url:
    """A URL that is parsed once, so that the host that is checked, connected to and requested is the same."""

    text: str
    scheme: str
    host: str
    port: int
    #: What a request line names: path and query.
    target: str

    @classmethod
    def parse(cls, text: str) -> Url:
        """Parse a URL. Raises RefusedUrlError."""
        try:
            parts = urlsplit(text)
            # The codec maps to ASCII per IDNA 2003; a trailing dot belongs neither into Host nor into SNI.
            host = (parts.hostname or "").encode("idna").decode().removesuffix(".")
            port = parts.port
        except ValueError as error:
            raise RefusedUrlError("The URL is not valid.") from error
        if parts.scheme not in ("http", "https"):
            raise RefusedUrlError(f"Only http and https URLs are fetched, not {parts.scheme[:20]!r}.")
        if parts.username is not None or parts.password is not None:
            raise RefusedUrlError(
                "A URL with a user name or password is not accepted. Use a signed URL instead."
            )
        if not re.fullmatch(r"[0-9a-z_-]+(\.[0-9a-z_-]+)*|[0-9a-f:.]+", host):
            raise RefusedUrlError("The URL has no valid host name.")
        target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
        if parts.query:
            target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?")
        return cls(text, parts.scheme, host, port or (443 if parts.scheme == "https" else 80), target)

    @property
    def authority(self) -> str:
        """The Host header (RFC 9110, section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if (self.scheme, self.port) in (("http", 80), ("https", 443)) else f"{host}:{self.port}"


def connect(
    url: Url,
    *,
    seconds: Callable[[], float],
    resolve: Callable[[str], list[IPAddress]] = resolve,
    is_allowed: Callable[[IPAddress], bool] = is_public,
) -> HTTPConnection:
    """Connect to the first address of a URL's host that answers, once all of them have been checked.

    At most `MOST_ADDRESSES` are tried; `seconds` gives how long each may take, and may raise. Raises
    RefusedUrlError for a host that is not allowed, and else what urllib3 and the system raise.
    """
    addresses = resolve(url.host)
    if not addresses or not all(map(is_allowed, addresses)):
        raise RefusedUrlError(f"{url.host} is not a public address. It must be open to the Internet.")
    *first, last = addresses[:MOST_ADDRESSES]
    for address in first:
        with suppress(HTTPError, OSError):
            return _connect_to(address, url, seconds())
    return _connect_to(last, url, seconds())


def _connect_to(address: IPAddress, url: Url, seconds: float) -> HTTPConnection:
    connection = HTTPConnection(str(address), url.port, timeout=seconds)
    if url.scheme == "https":
        # The certificate is checked, and asked for, by the host's name.
        connection = HTTPSConnection(
            str(address),
            url.port,
            timeout=seconds,
            server_hostname=url.host,
            ssl_context=ssl.create_default_context(),
        )
    try:
        connection.connect()
    except BaseException:
        connection.close()
        raise
    return connection
