"""The server's page."""

from starlette.routing import BaseRoute


def routes() -> list[BaseRoute]:
    """Return the routes of the page and its files."""
    return []
