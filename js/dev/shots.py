"""Screenshots of the dev page for looking at: `npx vite --port 5199 dev &`, then `python dev/shots.py OUT`."""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
with sync_playwright() as p:
    browser = p.chromium.launch(executable_path="/usr/bin/chromium", args=args)
    for width in (900, 1230, 2000):
        for theme in ("light", "dark"):
            page = browser.new_page(viewport={"width": width + 24, "height": 760})
            page.on("console", lambda m: print(m.type, m.text) if m.type in {"error", "warning"} else None)
            page.on("pageerror", lambda e: print("pageerror", e))
            page.goto(f"http://localhost:5199/dev/index.html?{theme}")
            page.wait_for_selector("[data-testid=op-row]")
            page.screenshot(path=out / f"{width}-{theme}-first.png")
            for i in range(3):
                for row in page.get_by_role("slider").all()[: 9 : 2 if i else 1]:
                    row.focus()
                    for _ in range(3 - i % 2):
                        page.keyboard.press("ArrowRight")
            rows = page.get_by_test_id("op-row")
            rows.nth(2).click(position={"x": 40, "y": 10})
            rows.nth(4).click(position={"x": 40, "y": 10}, modifiers=["Control"])
            page.screenshot(path=out / f"{width}-{theme}.png")
            page.close()
    browser.close()
