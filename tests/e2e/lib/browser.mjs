// Chromium, and the page as a person sees it.

import { mkdir } from "node:fs/promises";

import { chromium } from "playwright-core";

import { ADDRESS, CHROMIUM, DOMAIN, SCREENSHOTS } from "./settings.mjs";

/** A browser for which every host of the tests' domain is the ingress. */
export const launch = () =>
  chromium.launch({
    executablePath: CHROMIUM,
    args: [
      `--host-resolver-rules=MAP *.${DOMAIN} ${ADDRESS}`,
      // Chromium's sandbox refuses to start for root.
      ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
    ],
  });

/** A window of its own (no cookies or storage shared with others) in which somebody has entered the room under a name. */
export async function openWindow(browser, url, name) {
  const context = await browser.newContext({ viewport: { width: 900, height: 700 } });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  await page.goto(url);
  await page.locator("#name-input").fill(name);
  await page.locator("#name-ok").click();
  return page;
}

/** Types a message and sends it with the button. */
export async function say(page, text) {
  await page.locator("#message-input").fill(text);
  await page.locator("#send-btn").click();
}

/** Waits until the page shows this text among its messages. */
export const shows = (page, text) => page.locator("#messages").getByText(text, { exact: true }).first().waitFor();

/** How often the page shows this text among its messages. */
export const times = (page, text) => page.locator("#messages").getByText(text, { exact: true }).count();

/** Keeps a picture of the window. */
export async function picture(page, name) {
  await mkdir(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: `${SCREENSHOTS}/${name}.png` });
}
