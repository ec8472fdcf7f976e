"""Headless Chromium for the tests of the page: reads what the page shows and what the browser's console complains about."""

import base64
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--disable-gpu")
PATIENCE = 30.0  # seconds


class Browser:
    """One window; each page that is opened in it starts with empty storage."""

    def __init__(self, driver: webdriver.Chrome, downloads: Path) -> None:
        self.driver = driver
        self.downloads = downloads

    def open(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        colours = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.get("about:blank")
        self.command("Emulation.setEmulatedMedia", features=colours)
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        origin = "/".join(url.split("/")[:3])
        self.command("Storage.clearDataForOrigin", origin=origin, storageTypes="all")
        self.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        self.driver.get_log("browser")  # reading empties the log of the previous page
        self.driver.get(url)

    def command(self, name: str, **options: Any) -> Any:
        """Run a command of the browser's own protocol (CDP)."""
        return self.driver.execute_cdp_cmd(name, options)

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return str(self.find(selector).text)

    def number(self, selector: str) -> float:
        return float(self.text(selector).replace(",", "").replace("\u2013", "nan"))  # a dash: not known yet

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def choose(self, selector: str, text: str) -> None:
        Select(self.find(selector)).select_by_visible_text(text)

    def set(self, selector: str, value: float) -> None:
        """Move a slider."""
        script = (
            "arguments[0].value = arguments[1]; for (const kind of ['input', 'change']) arguments[0].dispatchEvent(new Event(kind))"
        )
        self.driver.execute_script(script, self.find(selector), value)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, seen: Callable[[], Any], what: str) -> Any:
        """Wait until `seen` returns something true, and return it; after PATIENCE, AssertionError with the page's text."""
        try:
            return WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05).until(lambda _: seen())
        except Exception as error:
            state = self.run("return document.body.innerText")
            raise AssertionError(f"{what}: not so after {PATIENCE:g} s.\n{self.complaints()}\n{state}") from error

    def wait_for(self, selector: str, text: str) -> str:
        """Wait until an element's text contains `text`; return the whole text."""
        return str(self.wait(lambda: (now := self.text(selector)) and text in now and now, f"{selector} says {text!r}"))

    def note(self, selector: str) -> None:
        """Record the texts of an element from now on, for `wait_until_said`."""
        script = """
            const element = arguments[0];
            window.said = [];
            new MutationObserver(() => window.said.push(element.textContent)).observe(element, { childList: true, subtree: true });
        """
        self.run(script, self.find(selector))

    def wait_until_said(self, text: str) -> None:
        """Wait until a recorded text has contained `text`, however briefly it was shown."""
        self.wait(lambda: any(text in said for said in self.run("return window.said")), f"it has said {text!r}")

    def downloaded(self, name: str) -> str:
        path = self.downloads / name
        return str(self.wait(lambda: path.exists() and path.read_text(), f"{name} is downloaded"))

    def complaints(self) -> list[str]:
        """The console's messages since the page was opened or since the last call, such as errors and policy violations."""
        return [each["message"] for each in self.driver.get_log("browser")]

    def picture(self) -> bytes:
        return base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"])


@contextmanager
def browser(downloads: Path) -> Iterator[Browser]:
    options = Options()
    assert CHROMIUM is not None
    assert DRIVER is not None
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield Browser(driver, downloads)
    finally:
        driver.quit()
