"""What ``powercut serve`` costs, and whether it bears many clients: first bytes, errors, memory, overhead.

    python benchmarks/serve.py [--model M | --table] [--clients 200] [--seconds 600]

Four measurements, of a server in a process of its own on the loopback interface. CPU: its seconds for a request of one
token. Hanging up: seconds from a client's end to that of its chain. Overhead: tokens decoded a second for 32 chains by
the server, and by ``pc.asample`` in that same process, by turns. Load: clients that stream answers one after the other,
one in twenty of which hangs up in the middle.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import time

import httpx
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

import powercut as pc
from powercut.samplers.named import build_sampler
from powercut.server.app import Bounds, create_app
from powercut.server.offer import Offer
from powercut.server.serving import listen, serve

LETTERS = ".abcdefghijklmnopqrstuvwxyz "


class LettersText:
    """One token a letter."""

    has_chat_template = False

    async def encode(self, text):
        """Ids of the letters."""
        return [max(0, LETTERS.find(letter)) for letter in text]

    async def is_rendered(self, text):
        """There is no template."""
        return False

    async def decode(self, tokens):
        """The letters."""
        return self.decode_now(tokens)

    def decode_now(self, tokens):
        """The letters."""
        return "".join(LETTERS[token] for token in tokens if token)


def load_engine(model, slots):
    """The engine of a model, or one of letters whose law changes from token to token."""
    if model is not None:
        return pc.load(model or None, slots=slots, context_length=1024)
    laws = np.random.default_rng(0).dirichlet(np.full(len(LETTERS), 0.3), size=64)
    laws[:, 0] *= 0.02
    laws /= laws.sum(1, keepdims=True)
    return pc.TableEngine(lambda context: laws[(context[-1] * 7 + len(context)) % 64], 0, text=LettersText())


def run_server(pipe, model, slots, settings):
    """The server's process: says where it listens, draws directly when told to, then serves."""
    engine = load_engine(model, slots)
    sampler = build_sampler("entropy-cut", settings)
    app = create_app(Offer("bench", engine, "entropy-cut", settings), Bounds())
    with listen("127.0.0.1", 0) as listener:
        pipe.send(listener.getsockname()[1])

        async def direct():
            """Draw what is asked for on the pipe, in the loop that serves: both have the same process and engine."""
            loop = asyncio.get_running_loop()
            while (seeds := await loop.run_in_executor(None, pipe.recv)) is not None:
                start = time.perf_counter()
                drawn = await pc.asample(engine, sampler, ["abc"] * len(seeds), seed=seeds[0], chat=False)
                pipe.send((sum(c.stats.tokens_decoded for c in drawn), time.perf_counter() - start))

        async def both():
            drawing = asyncio.create_task(direct())
            await serve(app, listener, 5)
            await drawing

        asyncio.run(both())


async def ask(client, **fields):
    """One whole answer."""
    answer = await client.post("/v1/completions", json={"prompt": "abc", **fields})
    answer.raise_for_status()
    return answer.json()


async def cpu_per_request(client, server, requests):
    """CPU milliseconds of the server for a request of one token."""
    await ask(client, model="bench@standard", max_tokens=1)
    before = server.cpu_times()
    for seed in range(requests):
        await ask(client, model="bench@standard", max_tokens=1, seed=seed)
    after = server.cpu_times()
    return 1000 * (after.user - before.user + after.system - before.system) / requests


async def hang_up(client, times):
    """The longest time, in seconds, from the end of a connection to that of its chain."""
    longest, body = 0.0, {"prompt": "abc", "stream": True, "steps": 10_000}
    for _ in range(times):
        async with client.stream("POST", "/v1/completions", json=body) as response:
            response.raise_for_status()
            await anext(response.aiter_lines())
        start = time.perf_counter()
        while not await idle(client):
            await asyncio.sleep(0.01)
        longest = max(longest, time.perf_counter() - start)
    return longest


async def idle(client):
    """Whether no chain runs or waits."""
    page = (await client.get("/metrics")).text
    return "powercut_chains_running 0\n" in page and "powercut_chains_waiting 0\n" in page


async def overhead(client, pipe, chains, repeats):
    """Tokens decoded a second by ``pc.asample`` and by the server, each ``[repeats]``."""
    loop = asyncio.get_running_loop()
    rates = {"direct": [], "server": []}
    for repeat in range(repeats):
        pipe.send(list(range(repeat * chains, (repeat + 1) * chains)))
        decoded, seconds = await loop.run_in_executor(None, pipe.recv)
        rates["direct"].append(decoded / seconds)
        start = time.perf_counter()
        answers = await asyncio.gather(*(ask(client, seed=repeat * chains + i) for i in range(chains)))
        decoded = sum(answer["usage"]["completion_tokens_details"]["decoded_tokens"] for answer in answers)
        rates["server"].append(decoded / (time.perf_counter() - start))
    return {name: np.array(values) for name, values in rates.items()}


async def stream(port, seed, leaves, first):
    """Stream one answer, on a connection of its own; ``first`` is given the seconds to its first event.

    Not by httpx, of which 200 at once take more of the machine than the server. Returns what was wrong, or None.
    """
    body = json.dumps({"prompt": "abc", "stream": True, "seed": seed}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    start = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        status = last = await reader.readline()
        async for line in reader:
            if not line.startswith(b"data: "):
                continue
            if last is status:
                first.append(time.perf_counter() - start)
                if leaves:
                    return None
            last = line
        return None if last == b"data: [DONE]\n" else f"{status!r} {last!r}"
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        writer.close()


async def load(port, server, clients, seconds):
    """Stream answers to many clients at once: seconds to first events, errors, and the server's memory over time."""
    end = time.perf_counter() + seconds
    first, wrong, memory = [], [], []

    async def one(number):
        rng = np.random.default_rng(number)
        while time.perf_counter() < end:
            wrong.append(await stream(port, int(rng.integers(2**31)), rng.random() < 0.05, first))

    async def watch():
        while time.perf_counter() < end:
            memory.append((time.perf_counter(), server.memory_info().rss / 2**20))
            await asyncio.sleep(min(1.0, seconds / 20))

    await asyncio.gather(watch(), *(one(number) for number in range(clients)))
    warm = [rss for when, rss in memory if when > end - 0.8 * seconds]
    third = max(1, len(warm) // 3)
    thirds = statistics.median(warm[:third]), statistics.median(warm[-third:])
    return len(wrong), [each for each in wrong if each], np.percentile(first, [50, 99]), thirds


async def measure(args, pipe, port, server, console):
    """Make the three measurements and print them."""
    table = Table("measured", "value")
    limits = httpx.Limits(max_connections=args.chains)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=600, limits=limits) as client:
        await ask(client)
        milliseconds = await cpu_per_request(client, server, args.requests)
        table.add_row("CPU of a request of one token", f"{milliseconds:.2f} ms")
        table.add_row(
            f"longest of {args.hang_ups} hang-ups to the chain's end", f"{await hang_up(client, args.hang_ups):.2f} s"
        )
        rates = await overhead(client, pipe, args.chains, args.repeats)
        for name, rate in rates.items():
            table.add_row(f"{args.chains} chains, {name}, median of {len(rate)}", f"{np.median(rate):,.0f} tokens/s")
        low, middle, high = np.percentile(1 - rates["server"] / rates["direct"], [25, 50, 75])
        table.add_row("overhead, median and quartiles", f"{middle:.1%} ({low:.1%} to {high:.1%})")
        count, errors, (median, slow), (early, late) = await load(port, server, args.clients, args.seconds)
        table.add_row(f"{args.clients} clients, {args.seconds:g} s", f"{count:,} answers, {len(errors)} errors")
        table.add_row("first byte, p50 and p99", f"{median:.3f} s, {slow:.3f} s")
        table.add_row("memory, first and last third", f"{early:.0f} MiB, {late:.0f} MiB ({late / early - 1:+.1%})")
        while not await idle(client):
            await asyncio.sleep(0.1)
    console.print(table)
    for error in sorted(set(errors))[:5]:
        console.print(f"error: {error}")


def main():
    """Start the server and measure it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="", help="hub id or folder; default: the bundled SmolLM2-135M-Instruct")
    parser.add_argument("--table", action="store_true", help="a table of letters in place of a model")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--chains", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--hang-ups", type=int, default=10)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4)
    args = parser.parse_args()
    settings = {"max_new_tokens": args.max_new_tokens, "blocks": args.blocks, "steps": args.steps, "top_k": 20}
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    model = None if args.table else args.model
    process = context.Process(target=run_server, args=(there, model, args.chains, settings), daemon=True)
    process.start()
    try:
        port = here.recv()
        console = Console(width=None if sys.stdout.isatty() else 120)
        asyncio.run(measure(args, here, port, psutil.Process(process.pid), console))
        here.send(None)
    finally:
        process.terminate()
        process.join()


if __name__ == "__main__":
    main()
