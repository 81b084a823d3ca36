// Tests of clients behind nginx and HAProxy, with the configurations of docs/proxies and of Socket.IO's documentation.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { numbered } from "../lib/member.mjs";
import { Proxy } from "../lib/proxy.mjs";
import { root } from "../lib/server.mjs";
import { until } from "../lib/wait.mjs";
import { ReverseProxy } from "./reverse-proxy.mjs";
import { join, startTwo } from "./room.mjs";

const skip = !process.env.PAPO_TEST_AMQP && "PAPO_TEST_AMQP names no RabbitMQ, which two servers need to have one log";
/** Rooms and proxies that can run at the same time. */
const CONCURRENCY = 3;

const configurations = {
  "nginx without sticky sessions": { file: root("docs/proxies/nginx.conf") },
  "nginx with a path": { file: root("docs/proxies/nginx-paths.conf"), path: "/chat/geral/", flags: ["--base-path", "/chat/geral"] },
  "nginx that removes a path": { file: root("docs/proxies/nginx-paths-removed.conf"), path: "/chat/geral/" },
  "nginx with hash": { file: root("tests/clients/proxies/nginx-hash.conf"), hasPort: false },
  "nginx with ip_hash": { file: root("tests/clients/proxies/nginx-ip-hash.conf"), hasPort: false },
  "HAProxy without sticky sessions": { file: root("docs/proxies/haproxy.cfg") },
  "HAProxy with a cookie": { file: root("tests/clients/proxies/haproxy-cookie.cfg") },
};

/** Starts two servers, the reverse proxy in front of them, and in front of that a link that the test can cut. */
async function start(t, { file, path = "/", flags = [], hasPort = true }) {
  const { servers } = await startTwo(t, ...flags);
  const { port } = await ReverseProxy.start(t, file, servers);
  const link = await Proxy.to(port, { test: t });
  const ana = await join(t, `${servers[0].url}`, "Ana", { path: `${flags[1] ?? ""}/socket.io/` });
  // As browsers do, Bia's clients say where their page is from; with `Host $host`, the server knows that only without a port.
  const extraHeaders = { Origin: hasPort ? link.url : "http://127.0.0.1" };
  const enter = (name, transports) => join(t, link.url, name, { path: `${path}socket.io/`, transports, extraHeaders });
  return { servers, link, ana, enter, page: `${link.url}${path}` };
}

const transport = (member) => member.socket.io.engine.transport.name;
const texts = (member) => member.messages.map(({ text }) => text);

describe("behind a reverse proxy", { concurrency: CONCURRENCY, skip }, () => {
  for (const [name, configuration] of Object.entries(configurations)) {
    test(`${name}: members upgrade, and resume after a cut`, async (t) => {
      const { servers, link, ana, enter, page } = await start(t, configuration);
      assert.match(await (await fetch(page)).text(), /<html/);
      const upgrading = await Promise.all(numbered(6, "default").map((name) => enter(name)));
      const polling = await Promise.all(numbered(2, "polling").map((name) => enter(name, ["polling"])));
      const members = [...upgrading, ...polling];
      for (const member of upgrading) await until(`${member.name} has upgraded`, () => transport(member) === "websocket");
      const all = members.map(({ name }) => name);
      for (const member of members) assert.deepEqual((await member.say(member.name)).map(({ ok }) => ok), [true]);
      for (const member of members) await member.sees(all.at(-1));
      assert.deepEqual(members.map(({ closes, connections }) => [closes, connections]), members.map(() => [[], 1]));

      link.cut();
      for (const member of members) await until(`${member.name} notices the cut`, () => !member.socket.connected);
      await ana.say(...numbered(100, "missed"));
      link.mend();
      for (const member of members) await until(`${member.name} is back`, () => member.histories[1]);
      await ana.say("after");
      for (const member of members) {
        await member.sees("after");
        assert.deepEqual(texts(member), [...all, ...numbered(100, "missed"), "after"], member.name);
        assert.deepEqual(member.histories.map(({ recovered }) => recovered), [false, true], member.name);
      }
      for (const member of upgrading) await until(`${member.name} has upgraded again`, () => transport(member) === "websocket");
      assert.deepEqual(polling.map(transport), ["polling", "polling"]);
      const sum = async (metric) => (await Promise.all(servers.map((server) => server.metric(metric)))).reduce((one, other) => one + other);
      assert.equal(await sum('papo_requests_forwarded_total{outcome="forged"}'), 0);
      if (!/hash/.test(name)) assert.ok((await sum('papo_requests_forwarded_total{outcome="upgraded"}')) > 0, "no upgrade was forwarded");
    });
  }

  for (const name of ["nginx without sticky sessions", "HAProxy without sticky sessions"]) {
    test(`${name}: members of a killed server resume at the other`, async (t) => {
      const { servers, ana, enter } = await start(t, configurations[name]);
      const members = await Promise.all([...numbered(4, "default").map((name) => enter(name)), enter("polling", ["polling"])]);
      await ana.say(...numbered(20));
      for (const member of members) await member.sees("m 20");
      await servers[1].kill();
      await ana.say(...numbered(20, "missed"));
      for (const member of members) {
        await member.sees("missed 20");
        assert.deepEqual(texts(member), [...numbered(20), ...numbered(20, "missed")], member.name);
      }
    });
  }
});
