"""The head of a request: its headers, and the bounds on them."""

from http import HTTPStatus

from starlette.types import Scope

from diffutron_ort.serve.errors import ApiError

MOST_HEADERS = 100
MOST_HEAD = 2**14  # bytes of the target and all headers


def header(scope: Scope, name: bytes) -> bytes:
    """Return the value of a header, joined where it is repeated; nothing where it is missing."""
    return b", ".join(value for key, value in scope["headers"] if key == name)


def check_size(scope: Scope) -> None:
    """Check a head against its bounds.

    Raises:
        ApiError: It is too large.
    """
    size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
    size += sum(len(key) + len(value) + 4 for key, value in scope["headers"])
    if len(scope["headers"]) > MOST_HEADERS or size > MOST_HEAD:
        raise too_large()


def too_large() -> ApiError:
    """Return the error of a head that is too large."""
    allowed = f"{MOST_HEADERS} headers and {MOST_HEAD} bytes"
    return ApiError(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the head of the request is too large: at most {allowed}"
    )


def check_content(scope: Scope) -> None:
    """Check that what is posted is JSON, which no page of another site can send unasked.

    Raises:
        ApiError: It is said to be something else.
    """
    if scope["method"] != "POST":
        return
    media_type = header(scope, b"content-type").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "post JSON, with the header content-type: application/json")
    if header(scope, b"content-encoding").strip().lower() not in (b"", b"identity"):
        raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "post JSON as it is: compressed bodies are not read")
