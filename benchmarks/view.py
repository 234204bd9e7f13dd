"""How long the viewer's page of a long chain takes to open, to go to a step and to scroll, in a headless Chromium.

    python benchmarks/view.py [--tokens 3072] [--steps 160] [--repeats 5]

The chain is made from a seed: no model is needed. Times are the browser's own, from the navigation to the moment at
which the page can be used, and to the first frame after it; a frame lasts from one requestAnimationFrame to the next.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import zlib
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.view.chromium import chromium  # noqa: E402
from tests.view.recorded import long_chain, read_lines  # noqa: E402

from powercut.durable import encode  # noqa: E402
from powercut.view.page import view_page  # noqa: E402

OPENING = """
window.times = {};
new MutationObserver((_, observer) => {
  if (document.documentElement.dataset.ready !== "yes") return;
  observer.disconnect();
  window.times.ready = performance.now();
  requestAnimationFrame(() => requestAnimationFrame(() => (window.times.frame = performance.now())));
}).observe(document, { attributes: true, subtree: true });
"""

FRAMES = """
const done = arguments[arguments.length - 1], deltas = [];
let before = performance.now(), count = 0;
const act = %s;
requestAnimationFrame(function next(now) {
  if (count) deltas.push(now - before);
  before = now;
  if (count++ === %d) return done(deltas);
  act();
  requestAnimationFrame(next);
});
"""
SCROLL = "((box) => () => { box.scrollTop += box.scrollHeight / 120; })(document.querySelector('#texts .text'))"
BACK = "() => document.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft', bubbles: true }))"


def main():
    """Make the chain, open its page, print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=3072)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    lines = long_chain(args.tokens, args.steps)
    start = time.process_time()
    written = b"".join(map(encode, lines))
    packed = len(zlib.compress(written, 4))
    packing = time.process_time() - start
    proposed = sum(len(line["proposal"]["tokens"]) for line in lines if "proposal" in line)
    start = time.process_time()
    page = view_page(read_lines(lines), "a long chain")
    made = time.process_time() - start
    found = {"ready": [], "frame": [], "scroll": [], "step": []}
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        file = Path(folder, "page.html")
        file.write_text(page, encoding="utf-8")
        for _ in range(args.repeats):
            with browser.before_each_page(OPENING):
                browser.open(f"file://{file}")
                times = browser.until("return window.times.frame && window.times")
            found["ready"].append(times["ready"])
            found["frame"].append(times["frame"])
            found["scroll"].append(max(browser.driver.execute_async_script(FRAMES % (SCROLL, 120))))
            found["step"].append(max(browser.driver.execute_async_script(FRAMES % (BACK, 20))))
    middle = {name: statistics.median(values) for name, values in found.items()}
    rows = (
        ("steps on disk: as sample writes them, as eval does", f"{len(written) / 1e6:.2f} MB, {packed / 1e6:.2f} MB"),
        ("of them a proposed token", f"{len(written) / proposed:.0f} bytes, {packed / proposed:.0f} bytes"),
        ("to write them, compressed", f"{packing:.1f} s of CPU"),
        ("page", f"{len(page.encode()) / 1e6:.2f} MB, made in {made:.1f} s of CPU"),
        ("from navigation to ready", f"{middle['ready']:.0f} ms"),
        ("from navigation to the first frame after it", f"{middle['frame']:.0f} ms"),
        ("longest frame while its text is scrolled, 120 frames", f"{middle['scroll']:.0f} ms"),
        ("longest frame while steps are gone through, 20 of them", f"{middle['step']:.0f} ms"),
    )
    print(f"{args.tokens:,} tokens, {args.steps} steps; medians of {args.repeats}\n")
    for name, value in rows:
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
