"""Pages in a headless Chromium."""

import time
from contextlib import contextmanager
from tempfile import TemporaryDirectory

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains

PATIENCE = 120.0
"""Seconds, on however busy a machine."""

IN_A_BROWSER = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of selenium's own, whenever they are collected
]
"""The marks of a file of such tests."""

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)


class Page:
    """What is open in the browser."""

    def __init__(self, driver):
        self.driver = driver

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def open(self, url):
        self.driver.get("about:blank")  # so that another hash is another visit
        self.driver.get(url)
        self.until("return document.documentElement.dataset.ready === 'yes'")
        return self

    def until(self, script, *arguments):
        end = time.monotonic() + PATIENCE
        while not (found := self.run(script, *arguments)):
            assert time.monotonic() < end, f"never: {script}"
            time.sleep(0.02)
        return found

    def press(self, *keys):
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def texts(self, selector):
        return self.run("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector)

    @property
    def hash(self):
        return self.run("return location.hash")

    @property
    def where(self):
        return self.run("return document.getElementById('where').textContent")

    def shown(self, column=0):
        """The text of a column, as it would be copied; all of it is built first."""
        return self.run(
            "const box = document.querySelectorAll('#texts .text')[arguments[0]];"
            "return [...box.querySelectorAll('.t')].map((t) => t.textContent).join('')",
            column,
        )

    def hover(self, t, column=0):
        self.run(
            "document.querySelectorAll('#texts .text')[arguments[1]].querySelector(`[data-t='${arguments[0]}']`)"
            ".dispatchEvent(new MouseEvent('mouseover', {bubbles: true}))",
            t,
            column,
        )
        return self.run("return document.getElementById('token').innerText")

    @contextmanager
    def before_each_page(self, script):
        """A script runs before those of a page that is opened meanwhile."""
        added = self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)

    def size(self, width, height=900):
        how = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", how)

    def scheme(self, name):
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def complaints(self):
        """What the browser has to say of the page, such as what its policy refused."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def tree(self):
        """Names and roles, as those who cannot see the page are told them."""
        nodes = self.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if "role" in node]


@contextmanager
def chromium():
    """A browser with a new, empty profile."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        for flag in (*FLAGS, f"--user-data-dir={profile}", "--window-size=1280,900"):
            options.add_argument(flag)
        options.binary_location = "/usr/bin/chromium"
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        driver.set_page_load_timeout(PATIENCE)
        driver.set_script_timeout(PATIENCE)
        try:
            yield Page(driver)
        finally:
            driver.quit()
