"""The yardstick: a bare streaming pass-through, as small as aiohttp allows. `python -m bench.bare PORT UPSTREAM`."""

import sys

import uvloop
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web

HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host"})


async def bare(upstream: str) -> web.Application:
    session = ClientSession(
        connector=TCPConnector(limit=0), timeout=ClientTimeout(), auto_decompress=False, cookie_jar=DummyCookieJar()
    )

    async def relay(request: web.Request) -> web.StreamResponse:
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in HOP]
        data = request.content if request.can_read_body else None
        async with session.request(request.method, upstream + request.raw_path, headers=headers, data=data) as reply:
            response = web.StreamResponse(status=reply.status, reason=reply.reason)
            response.headers.extend((k, v) for k, v in reply.headers.items() if k.lower() not in HOP)
            await response.prepare(request)
            async for chunk in reply.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", relay)
    return app


if __name__ == "__main__":
    loop, port = uvloop.new_event_loop(), int(sys.argv[1])
    web.run_app(bare(sys.argv[2]), host="127.0.0.1", port=port, access_log=None, print=None, backlog=4096, loop=loop)
