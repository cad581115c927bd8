"""The trace and the attention page in a real browser: it clicks, reads what is shown, and takes pictures.

`make browser` runs this; it needs Chromium (Debian: apt install chromium). The pictures go to build/browser.
"""

import os
import re
import shutil
from pathlib import Path

import pytest

from plainformers import pipeline

pytestmark = pytest.mark.browser
PICTURES = Path(__file__).parent.parent / "build" / "browser"
TEXT = "The food was cold and the waiter was rude."
QUIET = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]
SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    names = [os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    path = next(filter(None, map(shutil.which, filter(None, names))), None)
    assert path, "No Chromium was found: install it, or name it, CHROMIUM=/path/to/it make browser."
    root = hasattr(os, "geteuid") and os.geteuid() == 0  # Chromium's sandbox is not for root
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=QUIET, chromium_sandbox=not root)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, tmp_path, request):
    """Opens HTML as a file; fails when the page asks the network for anything, or reports an error."""
    complaints, contexts = [], []

    def open_page(source, scheme="light", width=980, height=900):
        path = tmp_path / "page.html"
        path.write_text(str(source), encoding="utf-8")
        context = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": height}, device_scale_factor=1.5
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda asked: None if asked.url == path.as_uri() else complaints.append(asked.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="module")
def pipe():
    return pipeline("sentiment-analysis")


@pytest.fixture(scope="module")
def traced(pipe):
    return pipe.trace(TEXT, attention=True)


def overflows(page):
    return page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


def background(page, place="body"):
    return page.evaluate(f"getComputedStyle(document.querySelector('{place}')).backgroundColor")


@SCHEMES
def test_a_trace(pipe, open_page, scheme):
    found = pipe.trace(TEXT)
    page = open_page(found.page(), scheme, width=900, height=300)
    assert page.locator(".pf-chip").count() == 12 and page.locator("section").count() == 3
    score = f"{float(found.scores.max()):.6f}"
    assert page.get_by_text(score, exact=True).is_visible()
    assert not overflows(page)
    assert (background(page) == "rgb(255, 255, 255)") == (scheme == "light")
    page.screenshot(path=PICTURES / f"trace-{scheme}.png", full_page=True)


@SCHEMES
def test_every_layer_and_head_can_be_chosen(traced, open_page, scheme):
    page = open_page(traced.attention_view(), scheme, height=300)
    layers, heads = page.locator(".layers button"), page.locator(".heads button")
    assert (layers.count(), heads.count()) == (6, 13)
    words = [token.text for token in traced.tokens[0]]
    for layer in range(6):
        layers.nth(layer).click()
        for head in range(13):
            heads.nth(head).click()
            assert page.locator("button[aria-pressed=true]").count() == 2
            query = (layer + head) % 12
            page.locator(".query").nth(query).hover()
            weights = traced.attentions[layer][0]
            row = weights.mean(0)[query] if head == 12 else weights[head, query]
            expected = [(word, f"{w:.4f}") for word, w in zip(words, row.tolist(), strict=True) if w >= 0.00501]
            got = page.evaluate(
                "[...document.querySelectorAll('.key')].filter(k => k.querySelector('.weight'))"
                ".map(k => [...k.querySelectorAll('text')].map(t => t.textContent))"
            )
            for (word, weight), (real_word, real) in zip(got, expected, strict=False):
                assert word == real_word and abs(float(weight) - float(real)) <= 2e-4
            assert abs(len(got) - len(expected)) <= 1
    layers.nth(2).click()
    heads.nth(4).click()
    page.locator(".query").nth(9).click()
    page.mouse.move(5, 5)
    assert page.locator(".query.on").text_content() == words[9], "a click keeps a token"
    assert not overflows(page)
    page.screenshot(path=PICTURES / f"attention-{scheme}.png", full_page=True)


def test_the_map_is_read_with_the_pointer_and_heads_with_the_keyboard(traced, open_page):
    page = open_page(traced.attention_view())
    box = page.locator(".map").bounding_box()
    size = (box["width"] - 2) / 12
    page.mouse.move(box["x"] + 1 + 3.5 * size, box["y"] + 1 + 5.5 * size)
    found = re.fullmatch(r"(\S+) → (\S+): (\d\.\d{4})", page.locator("output").inner_text())
    words = [token.text for token in traced.tokens[0]]
    assert found and found[1] == words[5] and found[2] == words[3]
    assert abs(float(found[3]) - float(traced.attentions[0][0, 0, 5, 3])) < 1e-4
    heads = page.locator(".heads button")
    heads.nth(0).focus()
    page.keyboard.press("ArrowRight")
    assert heads.nth(1).get_attribute("aria-pressed") == "true"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert heads.nth(0).get_attribute("aria-pressed") == "true"


def test_the_shades_of_the_map_are_the_weights(traced, open_page):
    page = open_page(traced.attention_view())
    page.locator(".heads button").nth(2).click()
    page.mouse.move(5, 5)
    alphas = page.evaluate(
        """() => { const map = document.querySelector(".map"), side = map.width / 12, c = map.getContext("2d");
        return [...Array(144).keys()].map(i =>
          c.getImageData((i % 12 + .5) * side, (Math.floor(i / 12) + .5) * side, 1, 1).data[3] / 255); }"""
    )
    for alpha, weight in zip(alphas, traced.attentions[0][0, 2].flatten().tolist(), strict=True):
        assert abs(alpha - weight**0.5) < 0.01


@SCHEMES
def test_a_trace_with_attention_and_several_inputs(pipe, open_page, scheme):
    found = pipe.trace(["Далеко не худший фильм, 但是很好看。", "שלום עולם, what a film!"], attention=True)
    page = open_page(found.page(), scheme, height=2300)
    frame = page.frame_locator("iframe").first
    frame.locator(".heads button").nth(3).click()
    assert frame.locator(".heads button[aria-pressed=true]").inner_text() == "4"
    assert page.locator(".pf-chip.pf-pad").count() > 0 and not overflows(page)
    page.screenshot(path=PICTURES / f"trace-two-scripts-{scheme}.png")


@pytest.mark.parametrize("text", ["", "a good film " * 8_400, "e" * 100_000])
def test_long_and_empty_texts(pipe, open_page, text):
    page = open_page(pipe.trace(text, attention=True).page(), height=1500)
    assert not overflows(page)
    page.frame_locator("iframe").first.locator(".heads button").nth(1).click()
    page.screenshot(path=PICTURES / f"trace-of-{len(text)}-characters.png")


def test_a_hostile_text_does_nothing(pipe, open_page):
    text = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'`${alert(1)}"
    page = open_page(pipe.trace(text, attention=True).page())
    page.frame_locator("iframe").first.locator(".query").first.hover()
    assert page.locator("img").count() == 0 and "alert(1)" in page.locator(".pf-input").inner_text()


def test_it_fits_a_narrow_screen(traced, open_page):
    page = open_page(traced.page(), width=420, height=1700)
    assert not overflows(page)
    page.screenshot(path=PICTURES / "trace-narrow.png")
