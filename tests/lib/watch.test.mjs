// The watch of objects in a cluster, against an API server that ends watches and forgets versions.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";

import { Api } from "./cluster/api.mjs";
import { Watch } from "./cluster/watch.mjs";

const PATH = "/things";
const object = (name, resourceVersion) => ({ metadata: { namespace: "n", name, resourceVersion } });

/** An API server that answers lists and watches with these answers, one after the other; the last watch stays open. */
async function server(t, { lists, watches }) {
  const asked = [];
  const listener = createServer((request, response) => {
    const isWatch = request.url.includes("watch=true");
    asked.push(isWatch ? `watch ${request.url.match(/resourceVersion=(\d+)/)[1]}` : "list");
    if (!isWatch) return void response.end(JSON.stringify(lists.shift()));
    const events = watches.shift();
    for (const event of events ?? []) response.write(`${JSON.stringify(event)}\n`);
    if (events) response.end();
    else response.flushHeaders();
  });
  await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    listener.closeAllConnections();
    listener.close();
  });
  const api = new Api();
  api.url = `http://127.0.0.1:${listener.address().port}`;
  return { api, asked };
}

test("a watch that ends goes on where it was", async (t) => {
  const { api, asked } = await server(t, {
    lists: [{ items: [object("a", "1")], metadata: { resourceVersion: "1" } }],
    watches: [[{ type: "ADDED", object: object("b", "2") }, { type: "BOOKMARK", object: object("", "7") }], [{ type: "DELETED", object: object("a", "8") }]],
  });
  const seen = [];
  const watch = await Watch.start(api, PATH, "x=y", (type, { metadata }) => seen.push(`${type} ${metadata.name}`));
  t.after(() => watch.stop());
  assert.ok(await watch.until(() => seen.length === 3, 30));
  assert.deepEqual(seen, ["ADDED a", "ADDED b", "DELETED a"]);
  assert.deepEqual(asked.slice(0, 3), ["list", "watch 1", "watch 7"]);
});

test("a forgotten version is listed again, and what is gone is reported", async (t) => {
  const { api } = await server(t, {
    lists: [
      { items: [object("a", "1"), object("b", "1")], metadata: { resourceVersion: "1" } },
      { items: [object("b", "9")], metadata: { resourceVersion: "9" } },
    ],
    watches: [[{ type: "ERROR", object: { code: 410, message: "too old resource version" } }]],
  });
  const seen = [];
  const watch = await Watch.start(api, PATH, "x=y", (type, { metadata }) => seen.push(`${type} ${metadata.name}`));
  t.after(() => watch.stop());
  assert.ok(await watch.until(() => seen.includes("DELETED a"), 30));
  assert.deepEqual(seen, ["ADDED a", "ADDED b", "ADDED b", "DELETED a"]);
});

test("waiting for what does not happen ends at its limit", async (t) => {
  const { api } = await server(t, { lists: [{ items: [], metadata: { resourceVersion: "1" } }], watches: [] });
  const watch = await Watch.start(api, PATH, "x=y", () => {});
  t.after(() => watch.stop());
  assert.equal(await watch.until(() => false, 0.05), false);
});
