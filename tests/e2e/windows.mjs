// The tests of a room's page in a browser, for one way into the cluster.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { ChatWindow, launch } from "../lib/browser.mjs";
import { create, remove, urlOf } from "../lib/cluster/room.mjs";
import { ADDRESS, DOMAIN } from "../lib/cluster/settings.mjs";
import { until } from "../lib/wait.mjs";

/** A browser that resolves every host of the tests' domain to the ingress. */
export const launchBrowser = () => launch(`--host-resolver-rules=MAP *.${DOMAIN} ${ADDRESS}`);

/** Tests of the page of the room `name`, which `make(name, spec)` describes, at this path. */
export const windowsTalk = (title, name, make, { path = "/", ...options } = {}) =>
  describe(title, options, () => {
    const url = urlOf(name) + path;
    let browser;
    before(async () => {
      await create(make(name, { title: "Sala de teste" }));
      browser = await launchBrowser();
      await until("the page answers", () => answers(browser, url), 60);
    });
    after(async () => {
      await browser?.close();
      await remove(name);
    });

    test("two browser windows talk", async (t) => {
      const [ana, rui] = await Promise.all([ChatWindow.open(t, url, { browser, name: "Ana" }), ChatWindow.open(t, url, { browser, name: "Rui" })]);
      await ana.say("bom dia, Rui");
      await Promise.all([rui.sees("bom dia, Rui"), ana.sees("bom dia, Rui")]);
      await rui.say("bom dia, Ana 👋");
      await Promise.all([ana.sees("bom dia, Ana 👋"), rui.sees("bom dia, Ana 👋")]);
      for (const page of [ana, rui]) assert.equal(await page.message("bom dia, Rui").count(), 1, "shown once, to its sender too");
      await Promise.all([ana.screenshot(`${name}-ana`), rui.screenshot(`${name}-rui`)]);
    });

    test("a window that opens later shows the history", async (t) => {
      const late = await ChatWindow.open(t, url, { browser, name: "Eva" });
      await late.sees("bom dia, Rui");
      await late.sees("bom dia, Ana 👋");
      await late.screenshot(`${name}-late`);
    });

    test("a reloaded page shows every message once", async (t) => {
      const page = await ChatWindow.open(t, url, { browser, name: "Léo" });
      await page.sees("bom dia, Rui");
      await page.page.reload();
      await page.sees("bom dia, Rui");
      assert.equal(await page.message("bom dia, Rui").count(), 1);
    });
  });

/** Whether the page loads. The ingress controller may learn of the pods later than the room becomes ready. */
export async function answers(browser, url) {
  const page = await browser.newPage();
  try {
    const response = await page.goto(url);
    return response.ok();
  } finally {
    await page.close();
  }
}
