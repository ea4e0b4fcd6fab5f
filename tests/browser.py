"""A headless Chromium for tests that look at a page as a person would."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import visibility_of_element_located
from selenium.webdriver.support.wait import WebDriverWait

from tests.conftest import in_ci

_ARGUMENTS: Final = (
    "--headless=new",
    "--no-sandbox",  # it refuses to run as root with one
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1280,900",
)


@contextmanager
def chromium(profile_dir: Path) -> Iterator[Chrome]:
    """A browser with a profile of its own; skips the test where there is none, but not in CI."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        problem = "needs Debian's packages chromium and chromium-driver"
        if in_ci():
            pytest.fail(problem)
        pytest.skip(problem)
    options = ChromeOptions()
    options.binary_location = browser
    for argument in (*_ARGUMENTS, f"--user-data-dir={profile_dir}"):
        options.add_argument(argument)
    # Named, so that selenium does not go and download one.
    with Chrome(options=options, service=ChromeService(executable_path=driver)) as chrome:
        chrome.set_page_load_timeout(30)
        yield chrome


def element(chrome: Chrome, by: str, what: str) -> WebElement:
    """The one element that is shown; a page that renews itself may have taken the last away."""
    wanted = WebDriverWait(chrome, 60, ignored_exceptions=[StaleElementReferenceException])
    return wanted.until(visibility_of_element_located((by, what)), f"no {what!r} appeared")


def click(chrome: Chrome, by: str, what: str) -> None:
    """Click on it, wherever the page has it by then."""

    def clicked(_driver: object) -> bool:
        element(chrome, by, what).click()
        return True

    wanted = WebDriverWait(chrome, 60, ignored_exceptions=[StaleElementReferenceException])
    wanted.until(clicked, f"{what!r} was not to be clicked")


def wait_for_text(chrome: Chrome, selector: str, *texts: str) -> str:
    """The text of what `selector` finds, once all of `texts` are in it."""

    def shown(_driver: object) -> str | None:
        found = " ".join(
            element.text for element in chrome.find_elements(By.CSS_SELECTOR, selector)
        )
        return found if all(text in found for text in texts) else None

    wanted = WebDriverWait(chrome, 60, ignored_exceptions=[StaleElementReferenceException])
    return wanted.until(shown, f"{texts} did not appear in {selector!r}") or ""
