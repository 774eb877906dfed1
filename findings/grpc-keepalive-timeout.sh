#!/bin/sh
# grpcio 1.85.1: `grpc.keepalive_timeout_ms` does not end a connection whose peer stops answering pings.
#
# Documented: a peer that leaves a keep-alive ping unanswered for `grpc.keepalive_timeout_ms` is closed. Seen: with
# keepalive_time_ms = 2000 and keepalive_timeout_ms = 2000 the stream of a client that was frozen with SIGSTOP ends after
# about a minute, the default of `grpc.http2.ping_timeout_ms`; with `grpc.http2.ping_timeout_ms` = 2000 besides, after
# about 4 s. Takes 70 s. Ends with 0 when it behaves so, with 1 when it does not.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "grpcio==1.85.1"
"$folder/venv/bin/python" - <<'PROGRAM'
import asyncio
import os
import signal
import sys
import time

import grpc

KEEPALIVE = [("grpc.keepalive_time_ms", 2000), ("grpc.keepalive_timeout_ms", 2000)]
CLIENT = """
import sys
import grpc
with grpc.insecure_channel(sys.argv[1]) as channel:
    for _ in channel.unary_stream("/test/Stream")(b""):
        print("reached", flush=True)
"""
LONGEST_S = 90.0


async def frozen_for(options):
    """Seconds from freezing a client to the end of its stream at the server."""
    ended = asyncio.get_running_loop().create_future()

    async def stream(request, context):
        await context.write(b"x")
        try:
            await asyncio.Event().wait()
        finally:
            ended.set_result(time.monotonic())

    server = grpc.aio.server(options=options)
    calls = {"Stream": grpc.unary_stream_rpc_method_handler(stream)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", calls),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    client = await asyncio.create_subprocess_exec(sys.executable, "-c", CLIENT, address, stdout=asyncio.subprocess.PIPE)
    await client.stdout.readline()
    os.kill(client.pid, signal.SIGSTOP)
    frozen = time.monotonic()
    try:
        return await asyncio.wait_for(ended, LONGEST_S) - frozen
    except TimeoutError:
        return float("inf")
    finally:
        client.kill()
        await client.wait()
        await server.stop(0)


async def main():
    alone_s, with_ping_s = await asyncio.gather(
        frozen_for(KEEPALIVE), frozen_for([*KEEPALIVE, ("grpc.http2.ping_timeout_ms", 2000)])
    )
    print(f"grpcio {grpc.__version__}, Python {sys.version.split()[0]}")
    print(f"keepalive_time_ms 2000, keepalive_timeout_ms 2000: a frozen client was held for {alone_s:.1f} s")
    print(f"... and http2.ping_timeout_ms 2000: for {with_ping_s:.1f} s")
    sys.exit(not (55 < alone_s < 75 and with_ping_s < 10))


asyncio.run(main())
PROGRAM
