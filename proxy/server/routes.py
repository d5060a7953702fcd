"""Every path and its handler, one table."""

from aiohttp import web

from proxy.server.admin import Admin
from proxy.server.handler import Handler
from proxy.server.passthrough import add_nothing


def client_app(handler: Handler) -> web.Application:
    """The client listener: everything goes one way, by what the request itself names."""
    app = web.Application()
    app.on_response_prepare.append(add_nothing)
    app.router.add_route("*", "/{path:(?s:.*)}", handler.handle)
    return app


def admin_app(admin: Admin) -> web.Application:
    app = web.Application()
    app.router.add_get("/healthz", admin.healthz)
    app.router.add_get("/readyz", admin.readyz)
    return app
