"""Server of tokens for OAUTHBEARER, as an identity provider has one: signed tokens, and the key to check them."""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

_KEY_ID = "test"


class TokenServer(NamedTuple):
    """Addresses of a token server.

    Attributes:
        tokens: Where clients get tokens.
        keys: Where brokers get the keys that check them.
    """

    tokens: str
    keys: str


@contextmanager
def token_server(client: str, secret: str) -> Iterator[TokenServer]:
    """Give tokens to one client, who must know its secret. The token's subject is the client."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    numbers = key.public_key().public_numbers()
    public = {"kty": "RSA", "kid": _KEY_ID, "alg": "RS256", "use": "sig"}
    public |= {"n": _number(numbers.n), "e": _number(numbers.e)}
    known = "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, {"keys": [public]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Authorization") != known:
                self._answer(401, {"error": "invalid_client"})
                return
            now = int(time.time())
            claims = {"sub": client, "iat": now, "exp": now + 3_600, "scope": "kafka"}
            signed = f"{_text({'alg': 'RS256', 'kid': _KEY_ID, 'typ': 'JWT'})}.{_text(claims)}"
            signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
            token = f"{signed}.{_encoded(signature)}"
            self._answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": 3_600})

        def _answer(self, status: int, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    base = f"http://127.0.0.1:{server.server_port}"
    try:
        yield TokenServer(f"{base}/token", f"{base}/keys")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _number(value: int) -> str:
    return _encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _text(content: Any) -> str:
    return _encoded(json.dumps(content).encode())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
