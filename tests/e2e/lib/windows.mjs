// The tests of a room's page in a browser, for one way into the cluster.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { launch, openWindow, picture, say, shows, times } from "./browser.mjs";
import { create, remove, urlOf } from "./room.mjs";
import { until } from "./wait.mjs";

/** Describes how people talk in a room called `name`, which `make` makes. */
export const windowsTalk = (title, name, make, options = {}) =>
  describe(title, options, () => {
    let browser;
    before(async () => {
      await create(make(name, { title: "Sala de teste" }));
      browser = await launch();
      await until("the page answers", () => answers(browser, urlOf(name)), 60);
    });
    after(async () => {
      await browser?.close();
      await remove(name);
    });

    test("two browser windows talk", async () => {
      const [ana, rui] = await Promise.all([openWindow(browser, urlOf(name), "Ana"), openWindow(browser, urlOf(name), "Rui")]);
      await say(ana, "bom dia, Rui");
      await Promise.all([shows(rui, "bom dia, Rui"), shows(ana, "bom dia, Rui")]);
      await say(rui, "bom dia, Ana 👋");
      await Promise.all([shows(ana, "bom dia, Ana 👋"), shows(rui, "bom dia, Ana 👋")]);
      for (const page of [ana, rui]) assert.equal(await times(page, "bom dia, Rui"), 1, "shown once, to its sender too");
      await Promise.all([picture(ana, `${name}-ana`), picture(rui, `${name}-rui`)]);
    });

    test("a window that opens later shows the history", async () => {
      const late = await openWindow(browser, urlOf(name), "Eva");
      await shows(late, "bom dia, Rui");
      await shows(late, "bom dia, Ana 👋");
      await picture(late, `${name}-late`);
    });

    test("a reloaded page shows every message once", async () => {
      const page = await openWindow(browser, urlOf(name), "Léo");
      await shows(page, "bom dia, Rui");
      await page.reload();
      await shows(page, "bom dia, Rui");
      assert.equal(await times(page, "bom dia, Rui"), 1);
    });
  });

/** The ingress controller may lag behind the room: it learns of the pods on its own. */
async function answers(browser, url) {
  const page = await browser.newPage();
  try {
    const response = await page.goto(url);
    return response.ok();
  } finally {
    await page.close();
  }
}
