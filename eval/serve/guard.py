"""Who may ask the page for something: Host, Origin and token of every request, and what browsers may do with answers.

A page of another site that is open in the same browser can send requests to this machine. By the name that it is asked
under (`Host`) a server sees that somebody let a name of his own point here (DNS rebinding), by `Origin` and
`Sec-Fetch-Site` that another site asks.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eval.serve.settings import is_loopback

COOKIE = "lip-to-speech"
_SAFE = ("GET", "HEAD")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=()",
    "Cache-Control": "no-store",
}


class Guard:
    """Passes requests on to the page if they are from it, or open it.

    Args:
        app: the page.
        host: that the server listens on.
        token: that visitors need, in the address or, from then on, in a cookie; None: none.
    """

    def __init__(self, app: ASGIApp, host: str, token: str | None) -> None:
        self._app, self._token = app, token
        self._local = is_loopback(host)
        self._names = {host.lower(), socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = MutableHeaders(scope=message)
                added.update(_HEADERS)
                if self._token is not None and asked and self._is_token(asked[:1]):
                    added.append("Set-Cookie", f"{COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict")
            await send(message)

        wrong = self._wrong(scope["method"], headers, asked)
        app = self._app if wrong is None else PlainTextResponse(wrong[1], wrong[0])
        await app(scope, receive, guarded)

    def _wrong(self, method: str, headers: dict[str, str], asked: list[str]) -> tuple[int, str] | None:
        """Status and sentence for what is not to be answered."""
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 421, f"this page is not at {host[:100]!r}: use the address that was printed when it was started\n"
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if method not in _SAFE and (
            (origin is not None and urlsplit(origin).netloc != host) or site not in (None, "same-origin")
        ):
            return 403, "only this page may ask for that\n"
        if self._token is None or self._is_token([*asked, *_cookies(headers.get("cookie", ""))]):
            return None
        return 401, "a token is needed: open the address that was printed when the page was started\n"

    def _is_ours(self, host: str) -> bool:
        """Whether a `Host` is an address, or a name of this machine: whoever rebinds a name needs a name."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if is_loopback(name):
            return True
        if self._local:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True

    def _is_token(self, given: Iterable[str]) -> bool:
        """Whether a token is among what was given; how long it takes says nothing of the token."""
        token = (self._token or "").encode()
        return any(hmac.compare_digest(each.encode("utf-8", "replace"), token) for each in given)


def _cookies(header: str) -> list[str]:
    try:
        cookies = SimpleCookie(header)
    except CookieError:
        return []
    return [cookies[COOKIE].value] if COOKIE in cookies else []
