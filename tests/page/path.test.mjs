// Tests of rooms below a path: with and without a proxy that removes the path, and several rooms on one host.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ChatWindow } from "../lib/browser.mjs";
import { Paths } from "../lib/paths.mjs";
import { PapoServer } from "../lib/server.mjs";

/** Two people talk on the page at `url`, and no request of theirs fails. */
async function talks(t, url) {
  const ana = await ChatWindow.open(t, url, { name: "Ana" });
  const failed = [];
  ana.page.on("response", (answer) => answer.status() >= 400 && failed.push(answer.url()));
  await ana.page.reload();
  await ana.connection("connected");
  const bia = await ChatWindow.open(t, url, { name: "Bia" });
  await bia.say("oi");
  await ana.sees("oi");
  assert.deepEqual([failed, ana.errors, bia.errors], [[], [], []]);
  return ana;
}

test("a room below a path is complete there, and nowhere else", async (t) => {
  const server = await PapoServer.start(t, "--base-path", "/chat/geral");
  const ana = await talks(t, `${server.url}/chat/geral/`);
  assert.equal(await ana.page.locator("link[rel=icon]").evaluate((link) => link.href), `${server.url}/chat/geral/static/favicon.svg`);
  await ana.page.goto(`${server.url}/chat/geral?a=b`);
  await ana.connection("connected");
  assert.equal(ana.page.url(), `${server.url}/chat/geral/?a=b`, "a final slash is added");
  for (const path of ["/", "/chat/", "/static/style.css", "/socket.io/?EIO=4&transport=polling", "/chat/geralissimo/"]) {
    const answer = await fetch(server.url + path);
    assert.equal(answer.status, 404, path);
    assert.match(await answer.text(), /\/chat\/geral\//);
  }
});

test("a proxy may remove the path or keep it", async (t) => {
  const [plain, below] = [await PapoServer.start(t), await PapoServer.start(t, "--base-path", "/inside")];
  const stripping = await Paths.to([{ path: "/a/b/", port: plain.port, strip: true }], { test: t });
  await talks(t, `${stripping.url}/a/b/`);
  const keeping = await Paths.to([{ path: "/inside/", port: below.port }], { test: t });
  await talks(t, `${keeping.url}/inside/`);
});

test("rooms of one host share nothing in a browser", async (t) => {
  const [one, other] = [await PapoServer.start(t, "--base-path", "/one"), await PapoServer.start(t)];
  const { url } = await Paths.to([{ path: "/one/", port: one.port }, { path: "/", port: other.port }], { test: t });
  const ana = await ChatWindow.open(t, `${url}/one/`, { name: "Ana" });
  const bia = await ChatWindow.open(t, `${url}/`, { name: "Bia", context: ana.context });
  const kept = await bia.page.evaluate(() => Object.keys(localStorage));
  assert.deepEqual(kept.toSorted(), ["papo.identity", "papo.identity /one/"]);
  // A message that waits in one room is not sent to the other, which this tab opens next.
  await one.kill();
  await ana.connection("reconnecting");
  await ana.say("só para a primeira sala");
  await ana.sees("só para a primeira sala");
  await ana.page.goto(`${url}/`);
  await ana.connection("connected");
  await ana.say("depois");
  await bia.sees("depois");
  assert.deepEqual(await bia.texts(), ["depois"]);
});
