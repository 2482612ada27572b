#!/usr/bin/env python3
"""Opens pages of `selfsup report` in headless Chromium and looks at them as a reader would.

    python3 tests/report/check.py PAGE.html... [--out DIR]

Needs Debian's `chromium` and Python's standard library; talks to the browser over its DevTools pipe. For each page:
no error on the console, nothing is fetched, no text runs out of a window of 390 pixels, the map answers to pointer,
keyboard and buttons, every control has a name, the page prints. Writes screenshots at 1,280 and 390 pixels, light and
dark, into DIR for a person to look at. Ends with 1 where something is wrong.
"""

import argparse
import base64
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time

# A page of 10,000 points is redrawn at least this fast, in milliseconds, also on a slow machine.
REDRAWN = 250


class Browser:
    """A headless Chromium and one page of it."""

    def __init__(self, binary):
        self.home = tempfile.mkdtemp()
        to_us, from_us = os.pipe(), os.pipe()

        def descriptors():
            # The browser reads from 3 and writes to 4.
            low, high = os.dup(from_us[0]), os.dup(to_us[1])
            os.dup2(low, 3)
            os.dup2(high, 4)

        arguments = [
            binary, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--mute-audio",
            "--no-first-run", "--disable-background-networking", "--remote-debugging-pipe",
            f"--user-data-dir={self.home}", "about:blank",
        ]
        self.process = subprocess.Popen(
            arguments, preexec_fn=descriptors, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(from_us[0])
        os.close(to_us[1])
        self.read, self.write = to_us[0], from_us[1]
        self.buffer, self.number, self.events, self.session = b"", 0, [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network"]:
            self.call(f"{domain}.enable")

    def message(self, wait=60.0):
        end = time.monotonic() + wait
        while b"\0" not in self.buffer:
            if not select.select([self.read], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            self.buffer += os.read(self.read, 1 << 20)
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **parameters):
        self.number += 1
        request = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.write, json.dumps(request).encode() + b"\0")
        while True:
            found = self.message()
            if found.get("id") == self.number:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']}")
                return found["result"]
            self.events.append(found)

    def value(self, expression):
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def settle(self):
        self.value("new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")

    def window(self, width, height, dark=False):
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media="", features=scheme)
        self.settle()

    def open(self, path):
        self.call("Page.navigate", url=path.resolve().as_uri())
        for _ in range(200):
            if self.value("document.readyState") == "complete":
                break
            time.sleep(0.05)
        self.settle()

    def picture(self, path, whole=True):
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self.area(whole))
        path.write_bytes(base64.b64decode(shot["data"]))

    def area(self, whole):
        if not whole:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 12000), "scale": 1}}

    def pointer(self, kind, x, y, **more):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def key(self, name):
        self.call("Input.dispatchKeyEvent", type="keyDown", key=name, code=name)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=name, code=name)

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.home, ignore_errors=True)


def problems(events):
    """Errors on the console, and what was fetched."""
    found = []
    for event in events:
        method, given = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            found.append("exception: " + json.dumps(given["exceptionDetails"])[:400])
        elif method == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
            # Reading the canvas back is this script's own doing.
            if "willReadFrequently" not in given["entry"]["text"]:
                found.append("log: " + given["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning", "assert"):
            found.append("console: " + json.dumps(given["args"])[:400])
        elif method == "Network.requestWillBeSent":
            url = given["request"]["url"]
            if not url.startswith(("data:", "file:", "about:", "blob:")):
                found.append("fetched: " + url)
    return found


UNNAMED = """[...document.querySelectorAll('button, a, canvas, [tabindex], img, audio')].filter((e) =>
  !(e.getAttribute('aria-label') || e.getAttribute('alt') || e.textContent.trim() || e.tagName === 'AUDIO')).length"""
WIDE = """[...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll') && !e.closest('svg')
  && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.tagName + '.' + e.className).slice(0, 5)"""
COLOURS = """(() => { const c = document.querySelector('canvas'); const d = c.getContext('2d').getImageData(0, 0,
  c.width, c.height).data; let h = 0; for (let i = 0; i < d.length; i += 4) h = (h * 31 + d[i] * 7 + d[i + 1] * 3 + d[i + 2]) | 0;
  return h; })()"""


def check_map(browser, say):
    """The map under pointer, keyboard and buttons."""
    browser.value("document.querySelector('#map').scrollIntoView({behavior: 'instant'})")
    browser.settle()
    # A place with a point, from the map itself.
    x, y = browser.value(
        "(() => { const m = MAPS[0]; const b = m.canvas.getBoundingClientRect(); const k = m.ids.length >> 1;"
        "const [x, y] = m.screen(k); return [b.left + x, b.top + y]; })()"
    )
    browser.pointer("mouseMoved", x, y)
    browser.settle()
    say("hover shows the sample", not browser.value("document.getElementById('tip').hidden"))
    browser.pointer("mousePressed", x, y, button="left", clickCount=1)
    browser.pointer("mouseReleased", x, y, button="left", clickCount=1)
    browser.settle()
    say("a click keeps it", browser.value("MAPS[0].selected !== null"))
    browser.pointer("mouseMoved", 2, 2)
    browser.value("MAPS[0].canvas.focus()")
    before = browser.value("MAPS[0].selected")
    for name in ["ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown"]:
        browser.key(name)
    browser.key("ArrowRight")
    browser.key("ArrowRight")
    say("arrow keys go on", browser.value("MAPS[0].selected") != before)
    browser.key("Escape")
    say("escape lets go", browser.value("MAPS[0].selected === null"))
    buttons = browser.value("[...document.querySelectorAll('#map .choice button')].map((b) => b.dataset.key)")
    seen = set()
    for key in buttons:
        browser.value(f"document.querySelector('#map .choice button[data-key=\"{key}\"]').click()")
        browser.settle()
        seen.add(browser.value(COLOURS))
    # The last layout and colouring may be drawn twice; others differ.
    say(f"buttons change the picture ({len(seen)} of {len(buttons)})", len(seen) >= max(1, len(buttons) - 2))
    browser.value("document.querySelector('#map .choice button').click()")
    label = "document.querySelector('#map .choice button[data-key=\"label\"]')"
    browser.value(f"{label} && {label}.click()")
    took = browser.value(
        "(() => { const t = performance.now(); for (let i = 0; i < 5; i++) MAPS[0].paint(); return (performance.now() - t) / 5; })()"
    )
    n = browser.value("MAPS[0].ids.length")
    say(f"{n} points are redrawn in {took:.0f} ms", took < REDRAWN)


def check(browser, page, out):
    bad = []

    def say(what, good):
        print(f"  {'ok  ' if good else 'FAIL'} {what}")
        if not good:
            bad.append(what)

    size = page.stat().st_size / 1e6
    print(f"{page} ({size:.1f} MB)")
    say("below 15 MB", size < 15)
    browser.events.clear()
    browser.window(1280, 900)
    started = time.monotonic()
    browser.open(page)
    say(f"opens in {time.monotonic() - started:.1f} s", time.monotonic() - started < 20)
    say("has a verdict", browser.value("document.querySelectorAll('.verdict h1').length === DATA.runs.length"))
    say("all controls have names", browser.value(UNNAMED) == 0)
    if browser.value("typeof MAPS !== 'undefined' && MAPS.length > 0"):
        check_map(browser, say)
    chart = "document.querySelector('#curves .chart')"
    if browser.value(f"!!{chart}"):
        browser.value(f"{chart}.focus()")
        browser.key("ArrowRight")
        text = browser.value(f"{chart}.parentElement.querySelector('.readout').textContent")
        say("arrow keys read a curve", "step" in text)
        browser.value("document.activeElement.blur()")
    browser.value("scrollTo(0, 0)")
    for width in [1280, 390]:
        for dark in [False, True]:
            browser.window(width, 900, dark)
            browser.open(page)
            browser.settle()
            if width < 500 and not dark:
                wide = browser.value(WIDE)
                say(f"nothing runs out of {width} pixels {wide or ''}", not wide and browser.value("document.documentElement.scrollWidth <= innerWidth"))
            if out:
                browser.picture(out / f"{page.stem}-{width}{'-dark' if dark else ''}.png")
    browser.window(1280, 900)
    browser.value("document.getElementById('theme').click()")
    say("the switch turns it dark", browser.value("document.documentElement.dataset.theme === 'dark'"))
    printed = base64.b64decode(browser.call("Page.printToPDF", printBackground=True)["data"])
    say("prints", printed.startswith(b"%PDF"))
    if out:
        (out / f"{page.stem}.pdf").write_bytes(printed)
    for problem in problems(browser.events):
        say(problem, False)
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("pages", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    given = parser.parse_args()
    binary = next((b for b in ["chromium", "chromium-browser", "google-chrome"] if shutil.which(b)), None)
    if binary is None:
        sys.exit("no Chromium: apt-get install --no-install-recommends chromium")
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
    browser = Browser(binary)
    try:
        bad = [problem for page in given.pages for problem in check(browser, page, given.out)]
    finally:
        browser.close()
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
