"""Serve OpenAI's API with Ray Serve: copies of the server on a cluster, behind Ray's own proxies.

from diffutron_ort.integrations.ray_serve import application
from diffutron_ort.serve.settings import Settings
from ray import serve

serve.run(application(Settings(model="/shared/bundle"), num_replicas=4, ray_actor_options={"num_cpus": 2}))
"""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diffutron_ort.extras import needing
from diffutron_ort.integrations.ray import processors

with needing("ray,serve", "diffutron_ort.integrations.ray_serve, besides ray[serve],"):
    from ray import serve

    from diffutron_ort.serve import logs
    from diffutron_ort.serve.app import make_app
    from diffutron_ort.serve.batching.service import Service
    from diffutron_ort.serve.guards.edge import guarded
    from diffutron_ort.serve.processes.lifecycle import loader
    from diffutron_ort.serve.settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def application(settings: Settings, **options: Any) -> "serve.Application":
    """Return what `serve.run` runs: replicas of the server with `settings`.

    Ray listens instead of the server, so `host`, `port`, `uds` and the settings of connections have no effect;
    `allow_hosts` names what clients call Ray's proxies by, where that is not the machine itself.

    Args:
        settings: Of each replica. Without `threads`, it takes as many as it has processors (`num_cpus`).
        **options: Of Ray's deployment: `num_replicas`, `ray_actor_options`, `autoscaling_config`, ….
    """
    usual = {"name": "diffutron", "max_ongoing_requests": settings.max_batch + settings.max_queue}
    deployment = serve.deployment(serve.ingress()(Replica))
    return deployment.options(**(usual | options)).bind(settings)


class Replica:
    """A copy of the server: a model, its engine, and the app that Ray passes requests to."""

    def __init__(self, settings: Settings) -> None:
        """Load the model.

        Raises:
            DiffutronError: It cannot be loaded.
        """
        self._settings = replace(settings, threads=settings.threads or processors())
        self._service = Service(self._settings, loader(self._settings, logs.say))
        self._service.start()
        while self._service.state == "loading":
            time.sleep(0.01)
        if self._service.failure is not None:
            raise self._service.failure

    def __serve_build_asgi_app__(self) -> "ASGIApp":
        """Return the app; Ray calls this once."""
        return guarded(make_app(self._service, self._settings), self._settings)

    def check_health(self) -> None:
        """Raise an error where a pass hangs, so that Ray replaces the replica; Ray calls this again and again."""
        age = self._service.pass_age
        if age is not None and age > self._settings.pass_timeout:
            raise RuntimeError(f"a pass has taken more than {self._settings.pass_timeout:g} s (pass_timeout)")

    def __del__(self) -> None:
        """End the engine's thread, once Ray has let the requests end."""
        self._service.close()
