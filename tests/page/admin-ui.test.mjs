// Tests of the Socket.IO Admin UI: its official web page, from its npm package, against a server.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { dirname, extname, join, normalize } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { ChatWindow } from "../lib/browser.mjs";
import { Member } from "../lib/member.mjs";
import { PapoServer } from "../lib/server.mjs";
import { until } from "../lib/wait.mjs";

const FILES = join(dirname(fileURLToPath(import.meta.resolve("@socket.io/admin-ui"))), "../ui/dist");
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css" };
const PASSWORD = "uma senha só deste teste";

/** Serves the page's files at an origin of its own. */
async function servePage(t) {
  const server = createServer((request, answer) => {
    const path = normalize(new URL(request.url, "http://x").pathname);
    const file = path === "/" ? "/index.html" : path;
    try {
      answer.setHeader("content-type", TYPES[extname(file)] ?? "application/octet-stream");
      answer.end(readFileSync(join(FILES, file)));
    } catch {
      answer.writeHead(404).end();
    }
  });
  t.after(() => server.close());
  await once(server.listen(0, "127.0.0.1"), "listening");
  return `http://127.0.0.1:${server.address().port}`;
}

/** A server with the Admin UI for a page at `origin`. */
async function start(t, origin) {
  const folder = mkdtempSync(join(tmpdir(), "papo-admin-ui-"));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, "user"), "ana\n");
  writeFileSync(join(folder, "password"), PASSWORD);
  return PapoServer.start(t, "--admin-ui-user", join(folder, "user"), "--admin-ui-password", join(folder, "password"), "--admin-ui-origin", origin);
}

/** Opens the page. Its fonts and icons are on other hosts, which no test asks. */
async function open(t, url) {
  const prepare = (page) => page.route(/^https:/, (route) => route.abort());
  const { page } = await ChatWindow.open(t, url, { prepare });
  return page;
}

async function signIn(page, server, password) {
  await page.getByLabel("Server URL").fill(`http://127.0.0.1:${server.adminPort}`);
  await page.getByLabel("Username").fill("ana");
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Connect" }).click();
}

const row = (page, text) => page.locator("main tbody tr", { hasText: text });
const hasRows = async (page, count) => (await page.locator("main tbody tr").count()) === count;

/** Opens one of the views, and waits until the one before it has gone: it has rows too. */
async function goTo(page, name) {
  await page.locator("nav").getByText(name, { exact: true }).click();
  await until(`${name} is shown`, async () => {
    const titles = await page.locator("main .v-breadcrumbs").allTextContents();
    return titles.length === 1 && titles[0].trim() === name;
  });
}
const joined = (t, server, name, transports) => Member.join(server.url, name, { test: t, transports, reconnection: false });

test("the Admin UI lists members, follows them and disconnects one", async (t) => {
  const origin = await servePage(t);
  const server = await start(t, origin);
  const [bia, caio] = [await joined(t, server, "Bia", ["polling"]), await joined(t, server, "Caio", ["websocket"])];
  const page = await open(t, origin);

  await signIn(page, server, "errada");
  await page.getByText("Invalid credentials").waitFor();
  await signIn(page, server, PASSWORD);
  await page.getByText("connected", { exact: true }).first().waitFor();

  await goTo(page, "Sockets");
  await row(page, bia.socket.id).getByText("HTTP long-polling").waitFor();
  await row(page, caio.socket.id).getByText("WebSocket").waitFor();
  assert.match(await row(page, bia.socket.id).textContent(), /127\.0\.0\.1/);
  await until("the page shows two sockets", () => hasRows(page, 2));

  // One joins with the defaults of its library, and upgrades; then it leaves.
  const duda = await joined(t, server, "Duda", ["polling", "websocket"]);
  await row(page, duda.socket.id).getByText("WebSocket").waitFor();
  const left = duda.socket.id;
  duda.leave();
  await row(page, left).waitFor({ state: "detached" });

  await goTo(page, "Rooms");
  const cells = row(page, "default/geral").locator("td");
  await until("the room has two sockets", async () => (await cells.nth(2).textContent()).trim() === "2");
  await cells.first().click();
  await row(page, bia.socket.id).waitFor();

  await goTo(page, "Sockets");
  await row(page, bia.socket.id).locator("td").first().click();
  await page.getByText(`"user": "Bia"`).waitFor();

  await goTo(page, "Servers");
  await row(page, "healthy").waitFor();
  await until("the page shows one server", () => hasRows(page, 1));

  await goTo(page, "Dashboard");
  for (const name of ["Clients", "Servers", "Namespaces"]) await page.locator("main").getByText(name, { exact: true }).first().waitFor();

  await goTo(page, "Sockets");
  const gone = bia.socket.id;
  await row(page, gone).getByRole("button").click();
  await until("Bia is disconnected", () => bia.closes.length > 0);
  assert.deepEqual(bia.closes, ["io server disconnect"]);
  // A click on the button is one on its row too, which opens the details of the socket.
  await goTo(page, "Sockets");
  await row(page, gone).waitFor({ state: "detached" });
  await row(page, caio.socket.id).waitFor();
  assert.deepEqual(caio.closes, []);
  await goTo(page, "Events");
  await row(page, "server namespace disconnect").waitFor();
  await goTo(page, "Rooms");
  await until("the room has one socket", async () => (await cells.nth(2).textContent()).trim() === "1");
});

test("the Admin UI signs in again after a reload, and shows who enters an empty room", async (t) => {
  const origin = await servePage(t);
  const server = await start(t, origin);
  const page = await open(t, origin);
  await signIn(page, server, PASSWORD);
  await page.getByText("connected", { exact: true }).first().waitFor();
  const session = () => page.evaluate(() => localStorage.getItem("session_id"));
  await until("the page has a session", session);
  await page.reload();
  await page.getByText("connected", { exact: true }).first().waitFor();
  await goTo(page, "Sockets");
  const bia = await joined(t, server, "Bia", ["websocket"]);
  await row(page, bia.socket.id).waitFor();
});

test("the Admin UI of another origin cannot connect", async (t) => {
  const origin = await servePage(t);
  const server = await start(t, "https://ui.example");
  const page = await open(t, origin);
  await signIn(page, server, PASSWORD);
  await page.getByText("Error: xhr poll error").waitFor();
});
