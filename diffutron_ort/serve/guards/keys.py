"""The keys that requests must have."""

import hashlib
import hmac
from collections.abc import Collection
from http import HTTPStatus

from starlette.types import Scope

from diffutron_ort.serve.errors import ApiError
from diffutron_ort.serve.guards.heads import header

CHALLENGE = 'Bearer realm="diffutron-ort"'


class KeyCheck:
    """Refuses requests without one of the keys, where there are keys."""

    def __init__(self, keys: Collection[str], public: Collection[str]) -> None:
        """Set up the check; paths in `public` need no key."""
        self._digests = [_digest(key.encode()) for key in keys]
        self._public = frozenset(public)

    def __call__(self, scope: Scope) -> None:
        """Check a request.

        Raises:
            ApiError: It has no key, or none of the keys.
        """
        if self._digests and scope["path"] not in self._public and not self._has_key(scope):
            advice = "send one of this server's keys as authorization: Bearer KEY, or as x-api-key: KEY"
            headers = {"www-authenticate": CHALLENGE}
            raise ApiError(HTTPStatus.UNAUTHORIZED, advice, code="invalid_api_key", headers=headers)

    def _has_key(self, scope: Scope) -> bool:
        scheme, _, bearer = header(scope, b"authorization").partition(b" ")
        given = bearer.strip() if scheme.lower() == b"bearer" else header(scope, b"x-api-key")
        digest = _digest(given)
        return any([hmac.compare_digest(digest, one) for one in self._digests])  # noqa: C419 - all, so as to take the same time


def _digest(key: bytes) -> bytes:
    """Return a key's digest: digests have one length, and comparing them tells nothing of the keys."""
    return hashlib.sha256(key).digest()
