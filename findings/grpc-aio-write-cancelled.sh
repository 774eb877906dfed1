#!/bin/sh
# A server that streams with grpc.aio bounds a write to a slow reader as asyncio bounds everything: `async with
# asyncio.timeout(s): await context.write(message)`. A good engineer expects that a cancelled write was not made, or at least
# that the stream can go on with the next message. grpcio 1.85.1 does neither: the cancelled message stays in gRPC and IS
# delivered once the reader goes on (so whoever sends it again sends it twice), and until then every further write raises
# ExecuteBatchError "GRPC_CALL_ERROR_TOO_MANY_OPERATIONS" (8), which is no AioRpcError and names neither time-out nor reader.
# Only once the reader has taken the old message can one write again. context.abort() right after the time-out works: it is
# the one way on.
#
# Needs python3 (3.11+) with venv, and a package registry; loopback only. Exits 0 when it behaves so, 1 when it has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check grpcio==1.85.1
GRPC_VERBOSITY=NONE "$folder/env/bin/python" - <<'PYTHON'
import asyncio
import sys
from importlib.metadata import version

import grpc

MESSAGE_BYTES = 100_000


class Stalled:
    """One call of a reader that reads nothing until told to; what the server's writes gave."""

    def __init__(self, then: str) -> None:
        self.then = then
        self.timed_out_at = -1
        self.next_write = "not tried"
        self.after_reading = "not tried"
        self.stalled, self.reading = asyncio.Event(), asyncio.Event()

    async def serve(self, _request: bytes, context: grpc.aio.ServicerContext) -> None:
        number = 0
        while self.timed_out_at < 0:
            try:
                async with asyncio.timeout(0.5):
                    await context.write(number.to_bytes(4, "big") + bytes(MESSAGE_BYTES))
                number += 1
            except TimeoutError:
                self.timed_out_at = number
        if self.then == "abort":
            self.stalled.set()
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "nothing was read")
        self.next_write = await outcome(context.write(b"next"))
        self.stalled.set()
        await self.reading.wait()
        self.after_reading = await outcome(context.write(b"last"))


async def outcome(write) -> str:
    try:
        await write
        return "written"
    except Exception as error:
        return f"{type(error).__name__}, an AioRpcError: {isinstance(error, grpc.aio.AioRpcError)}"


async def run(then: str) -> dict[str, object]:
    call = Stalled(then)
    handler = grpc.unary_stream_rpc_method_handler(call.serve)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("demo.Numbers", {"Count": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    read: list[bytes] = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream = channel.unary_stream("/demo.Numbers/Count")(b"", timeout=60)
        await asyncio.wait_for(call.stalled.wait(), 60)
        status = ""
        try:
            while (message := await stream.read()) is not grpc.aio.EOF:
                read.append(message)
                if len(read) == call.timed_out_at + 1 and then == "write":
                    await asyncio.sleep(0.5)
                    call.reading.set()
            status = (await stream.code()).name
        except grpc.aio.AioRpcError as error:
            status = error.code().name
    await server.stop(0)
    numbers = [int.from_bytes(message[:4], "big") for message in read if len(message) > 4]
    return {
        "the cancelled message was delivered": call.timed_out_at in numbers,
        "the next write, while the reader stands still": call.next_write,
        "a write once the reader has gone on": call.after_reading,
        "status that the reader gets": status,
    }


print("grpcio", version("grpcio"))
found = {then: asyncio.run(asyncio.wait_for(run(then), 120)) for then in ("write", "abort")}
for then, facts in found.items():
    print(f"after the time-out: {then}")
    for what, value in facts.items():
        print(f"  {what}: {value}")
same = (
    found["write"]["the cancelled message was delivered"] is True
    and found["write"]["the next write, while the reader stands still"] == "ExecuteBatchError, an AioRpcError: False"
    and found["write"]["a write once the reader has gone on"] == "written"
    and found["abort"]["status that the reader gets"] == "RESOURCE_EXHAUSTED"
)
print("as described" if same else "this has changed")
sys.exit(not same)
PYTHON
