// A company's room: Ana signs in at Dex through the ingress, writes, and is put out when the room denies her, without a restart of anything.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { ChatWindow } from "../lib/browser.mjs";
import { join } from "../lib/cluster/ingress.mjs";
import { apply, get, inRooms } from "../lib/cluster/kubectl.mjs";
import { childOf, condition, create, hostOf, pods, ready, remove, roomWithIngress, urlOf } from "../lib/cluster/room.mjs";
import { DEX_IMAGE, DOMAIN } from "../lib/cluster/settings.mjs";
import { until } from "../lib/wait.mjs";
import { ANA, DEX, startDex, stopDex } from "./dex.mjs";
import { answers, launchBrowser } from "./windows.mjs";

const NAME = "empresa";
/** Seconds within which a change of access is in force. */
const IN_FORCE = 60;

const access = {
  guests: "Read",
  issuers: [DEX.issuer],
  write: [`group:${ANA.groups[0]}`],
  signIn: { clientId: DEX.clientId, scopes: ["openid", "profile", "groups"] },
};

// A page may use its cryptography only over TLS, or on this machine.
const skip = !DEX_IMAGE ? "PAPO_E2E_DEX_IMAGE is not set" : !`.${DOMAIN}`.endsWith(".localhost") ? `${DOMAIN} is not below localhost` : false;

describe("people sign in", { skip }, () => {
  let browser;
  let guest;
  let ana;
  let identities;
  before(async () => {
    await startDex(`${urlOf(NAME)}/`);
    await create(roomWithIngress(NAME, { replicas: 2, access }));
    identities = await identitiesOf(NAME);
    browser = await launchBrowser();
    for (const url of [urlOf(NAME), `${DEX.issuer.issuer}/.well-known/openid-configuration`]) {
      await until(`${url} answers`, () => answers(browser, url), 60);
    }
    guest = await join(NAME, "Rui");
  });
  after(async () => {
    guest?.leave();
    await browser?.close();
    await remove(NAME);
    await stopDex();
  });

  test("a guest may read and not write", async () => {
    const answer = await guest.ask("message", "posso?");
    assert.equal(answer.code, "forbidden", JSON.stringify(answer));
  });

  test("a person signs in through the ingress, and writes", async (t) => {
    // The window stays for the next tests, until its browser is closed.
    ana = await ChatWindow.open({ after() {} }, urlOf(NAME), { browser });
    await ana.page.click("#sign-in-to-write");
    await ana.page.waitForURL((url) => url.hostname === hostOf("dex"));
    await ana.page.fill("#login", ANA.email);
    await ana.page.fill("#password", ANA.password);
    await ana.page.click("#submit-login");
    await ana.page.waitForURL((url) => url.hostname === hostOf(NAME));
    await ana.connection("connected");
    await ana.page.waitForSelector("#account-btn:not([hidden])");
    await ana.say("bom dia da Ana");
    await ana.sees("bom dia da Ana");
    await ana.screenshot(`${NAME}-ana`);
    await guest.sees("bom dia da Ana");
    const { user, verified } = guest.live.find(({ text }) => text === "bom dia da Ana");
    assert.deepEqual({ user, verified }, { user: ANA.name, verified: true });
    t.diagnostic("Dex's access token was accepted, with its keys over TLS of a private authority");
  });

  test("a person who is denied is out within a minute, and no pod restarts", async (t) => {
    assert.ok(ana, "Ana is in the room");
    const began = Date.now();
    await setAccess({ ...access, denied: { subjects: [ANA.subject] } });
    await ana.page.waitForSelector("#gate:not([hidden])", { timeout: IN_FORCE * 1000 });
    t.diagnostic(`${((Date.now() - began) / 1000).toFixed(1)} s from the change to the closed room`);
    await ana.screenshot(`${NAME}-denied`);
    assert.equal(guest.closes.length, 0, "others stay");
    assert.deepEqual(await identitiesOf(NAME), identities);
  });

  test("what guests may do follows the room", async (t) => {
    const began = Date.now();
    await setAccess({ ...access, guests: "Write" });
    await until("the guest may write", async () => (await guest.ask("message", "agora sim")).ok, IN_FORCE);
    t.diagnostic(`${((Date.now() - began) / 1000).toFixed(1)} s from the change to the first message`);
    assert.deepEqual(await identitiesOf(NAME), identities);
  });

  test("rules that no server would take are reported, and the former stay in force", async () => {
    // Only the operator knows whether the chart's defaults name an issuer.
    await setAccess({ guests: "None" });
    await until("Accepted is False", async () => (await condition(NAME, "Accepted")).status === "False");
    assert.match((await condition(NAME, "Accepted")).message, /nobody may enter: name an issuer/);
    assert.ok((await guest.ask("message", "ainda aqui")).ok);
    await setAccess(access);
    await ready(NAME);
  });
});

/** Replaces the access of the room: a merge patch would keep what it does not name. */
const setAccess = (access) => inRooms("patch", "chatroom", NAME, "--type=json", "-p", JSON.stringify([{ op: "replace", path: "/spec/access", value: access }]));

/** What a restart would change: the room's pods, the restarts of their containers, and the generation of their Deployment. */
async function identitiesOf(name) {
  const all = (await pods(name)).map(({ metadata, status }) => `${metadata.name} ${status.containerStatuses.map(({ restartCount }) => restartCount)}`);
  return { pods: all.sort(), generation: (await get("deployment", childOf(name))).metadata.generation };
}
