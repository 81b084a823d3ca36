// Two people in two browser windows, through what leads into the cluster.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { launch, openWindow, picture, say, shows, times } from "./lib/browser.mjs";
import { create, remove, roomWithGateway, roomWithIngress, urlOf } from "./lib/room.mjs";
import { GATEWAY } from "./lib/settings.mjs";
import { until } from "./lib/wait.mjs";

const ways = [
  { way: "Ingress", name: "by-ingress", make: roomWithIngress },
  { way: "HTTPRoute", name: "by-gateway", make: roomWithGateway, skip: GATEWAY ? false : "PAPO_E2E_GATEWAY names no Gateway" },
];

for (const { way, name, make, skip } of ways) {
  describe(`through the ${way}`, { skip }, () => {
    let browser;
    before(async () => {
      await create(make(name, { title: "Sala de teste" }));
      browser = await launch();
      await until("the page answers", () => answers(browser, urlOf(name)), 30);
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

    test("a window that comes later sees what was said", async () => {
      const late = await openWindow(browser, urlOf(name), "Eva");
      await shows(late, "bom dia, Rui");
      await shows(late, "bom dia, Ana 👋");
      await picture(late, `${name}-late`);
    });

    test("a page that is reloaded shows everything once", async () => {
      const page = await openWindow(browser, urlOf(name), "Léo");
      await shows(page, "bom dia, Rui");
      await page.reload();
      await shows(page, "bom dia, Rui");
      assert.equal(await times(page, "bom dia, Rui"), 1);
    });
  });
}

/** The way in may lag behind the room: its controller learns of the pods on its own. */
async function answers(browser, url) {
  const page = await browser.newPage();
  try {
    const response = await page.goto(url);
    return response.ok();
  } finally {
    await page.close();
  }
}
