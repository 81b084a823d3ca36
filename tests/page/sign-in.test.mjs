// Tests of signing in, in Chromium and Firefox, at a real issuer: oidc-provider, which is certified. Every sign-in goes through its own forms.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";

import { startRoom } from "../lib/access.mjs";
import { ChatWindow, DESKTOP, PHONE } from "../lib/browser.mjs";
import { Firefox, withoutFirefox } from "../lib/firefox.mjs";
import { CLIENT, Issuer, RESOURCE } from "../lib/issuer.mjs";
import { Member } from "../lib/member.mjs";
import { Paths } from "../lib/paths.mjs";
import { root } from "../lib/server.mjs";
import { until } from "../lib/wait.mjs";
import { accessible } from "./axe.mjs";

const PEOPLE = {
  ana: { name: "Ana Souza", preferred_username: "ana", groups: ["staff"] },
  bia: { name: "Bia", preferred_username: "bia", groups: ["staff"] },
  eva: { name: "Eva", preferred_username: "eva", groups: ["others"] },
};

let firefox;
before(async () => (firefox = withoutFirefox ? undefined : await Firefox.launch()));
after(() => firefox?.close());

const BROWSERS = [
  ["Chromium", { open: (...args) => ChatWindow.open(...args) }],
  ["Firefox", { skip: withoutFirefox, open: (...args) => firefox.open(...args) }],
];

/** Fills in the issuer's forms, which the window shows, and waits until the person is in the room. */
async function passForms(window, login) {
  await sendForms(window, login);
  await window.connection("connected");
}

/** The issuer asks who the person is, and whether the page may know it. */
async function sendForms(window, login) {
  await window.fill("input[name=login]", login);
  await window.fill("input[name=password]", "any");
  await window.click("button[type=submit]");
  await window.visible(".login-client-image ~ form button[type=submit]");
  await window.click("button[type=submit]");
}

async function signIn(window, login) {
  await window.click("#gate-actions button");
  await passForms(window, login);
}

/** Tries to enter until the server has read its new rules. */
async function tryAgain(window) {
  const button = window.page.getByRole("button", { name: "Tentar de novo" });
  await until("the person is in the room", async () => {
    if (await button.isVisible()) await button.click({ timeout: 1_000 });
    return window.page.isVisible('#connection[data-state="connected"]');
  });
}

/** A member that is signed in without a browser. */
const join = async (t, issuer, room, login) => Member.join(room.url, { accessToken: await issuer.token(login) }, { test: t });

/** Counts the WebSockets that a window of Chromium has opened, from before its first page. */
function countSockets() {
  const sockets = { opened: 0 };
  return { sockets, prepare: (page) => void page.on("websocket", () => (sockets.opened += 1)) };
}

for (const [browser, { skip, open }] of BROWSERS) {
  describe(browser, { skip }, () => {
    test("a person signs in at the issuer, and signs out", async (t) => {
      const issuer = await Issuer.start(t, { people: PEOPLE });
      const room = await startRoom(t, issuer, {}, "--title", "Papo da firma");
      const bia = await join(t, issuer, room, "bia");
      const ana = await open(t, room.url);
      await ana.visible("#gate-title");
      assert.deepEqual(await ana.contents("#gate-title"), ["Faça login para entrar"]);
      await signIn(ana, "ana");
      assert.equal(await ana.evaluate(() => location.href), room.url, "the issuer's answer is not in the address bar");
      await ana.say("oi da firma");
      await ana.sees("oi da firma", "sent");
      const { user, verified, sender } = await bia.sees("oi da firma");
      assert.deepEqual({ user, verified }, { user: "Ana Souza", verified: true });
      await bia.say("oi, Ana");
      await ana.sees("oi, Ana");
      assert.deepEqual(await ana.contents(".author .guest"), [], "neither is a guest");
      assert.deepEqual(await ana.contents("#account-name"), ["Ana Souza"]);
      await ana.hidden("#name-btn");
      const kept = await ana.evaluate(() => [Object.values(localStorage).join(), document.cookie]);
      assert.doesNotMatch(kept.join(), /eyJ/, "no token outlives the window");

      await ana.reload();
      await ana.connection("connected");
      await ana.say("voltei");
      assert.equal((await bia.sees("voltei")).sender, sender, "the same person after a reload");

      await ana.click("#account-btn");
      await ana.visible("#account-dialog[open]");
      assert.deepEqual(await ana.contents("#account-words"), ["Você fez login como ana."]);
      await ana.click("#sign-out");
      await ana.click("button[value=yes]");
      await ana.visible("#gate-title");
      assert.doesNotMatch(await ana.evaluate(() => Object.values(sessionStorage).join()), /eyJ/, "no token is left");
      await ana.click("#gate-actions button");
      await ana.visible("input[name=login]");
      assert.deepEqual(ana.errors, []);
    });

    test("a guest reads, and signs in to write", async (t) => {
      const issuer = await Issuer.start(t, { people: PEOPLE });
      const room = await startRoom(t, issuer, { guests: "Read" });
      const bia = await join(t, issuer, room, "bia");
      await bia.say("leia quem quiser");
      const ana = await open(t, room.url);
      await ana.sees("leia quem quiser");
      await ana.visible("#sign-in-to-write");
      for (const hidden of ["#composer", "#name-btn", "#name-dialog[open]"]) await ana.hidden(hidden);
      await ana.click("#sign-in-to-write");
      await passForms(ana, "ana");
      await ana.say("agora eu");
      assert.equal((await bia.sees("agora eu")).verified, true);
      await ana.hidden("#sign-in-to-write");
      assert.deepEqual(ana.errors, []);
    });

    test("a session that ends keeps what is written", async (t) => {
      const issuer = await Issuer.start(t, { people: PEOPLE, tokenLifetime: 6, refreshes: false });
      const room = await startRoom(t, issuer);
      const ana = await open(t, room.url);
      await signIn(ana, "ana");
      await ana.fill("#message-input", "antes do fim");
      await ana.reads("O seu login está para vencer.");
      await ana.reads("O seu login venceu.");
      await ana.press("Enter");
      await ana.sees("antes do fim", "pending");
      await ana.fill("#message-input", "um rascunho");
      await ana.click("#notice-action");
      // The issuer still knows who it is, and asks nothing.
      await ana.connection("connected");
      await ana.sees("antes do fim", "sent");
      assert.equal(await ana.evaluate(() => document.getElementById("message-input").value), "um rascunho");
      assert.deepEqual(await ana.texts(), ["antes do fim"]);
    });
  });
}

test("tokens are renewed before they expire, on the same connection", async (t) => {
  const issuer = await Issuer.start(t, { people: PEOPLE, tokenLifetime: 8 });
  const room = await startRoom(t, issuer);
  const bia = await Member.join(room.url, { accessToken: await issuer.token("bia", { lifetime: 3600 }) }, { test: t });
  const { sockets, prepare } = countSockets();
  const ana = await ChatWindow.open(t, room.url, { prepare });
  await signIn(ana, "ana");
  for (const times of [1, 2, 3]) {
    await until(`the token is renewed ${times} times`, () => issuer.grants.refresh_token >= times);
    await ana.say(`renovado ${times}`);
    await bia.sees(`renovado ${times}`);
  }
  assert.equal(sockets.opened, 1, "one connection had all tokens");
  assert.ok(await ana.page.isHidden("#notice"));
  assert.deepEqual(ana.errors, []);
});

test("an issuer that is down for a while costs no connection", async (t) => {
  const issuer = await Issuer.start(t, { people: PEOPLE, tokenLifetime: 10 });
  const room = await startRoom(t, issuer);
  const { sockets, prepare } = countSockets();
  const ana = await ChatWindow.open(t, room.url, { prepare });
  await signIn(ana, "ana");
  issuer.answers = false;
  const failed = ana.page.waitForEvent("requestfailed", { predicate: (request) => request.url().startsWith(issuer.url) });
  await failed;
  issuer.answers = true;
  await until("the token is renewed", () => issuer.grants.refresh_token >= 1);
  await ana.say("a mesma conexão");
  await ana.sees("a mesma conexão", "sent");
  assert.equal(sockets.opened, 1);
});

test("a page that was closed renews an old token before it connects", async (t) => {
  const issuer = await Issuer.start(t, { people: PEOPLE });
  const room = await startRoom(t, issuer);
  const ana = await ChatWindow.open(t, room.url);
  await signIn(ana, "ana");
  await ana.evaluate(() => {
    const session = JSON.parse(sessionStorage.getItem("papo.session"));
    sessionStorage.setItem("papo.session", JSON.stringify({ ...session, expiresAt: 0 }));
  });
  await ana.reload();
  await ana.connection("connected");
  assert.equal(issuer.grants.refresh_token, 1);
});

test("a token that the server does not accept is replaced once", async (t) => {
  const issuer = await Issuer.start(t, { people: PEOPLE });
  const room = await startRoom(t, issuer);
  const { sockets, prepare } = countSockets();
  const ana = await ChatWindow.open(t, room.url, { prepare });
  await signIn(ana, "ana");
  const spoil = () => {
    const session = JSON.parse(sessionStorage.getItem("papo.session"));
    sessionStorage.setItem("papo.session", JSON.stringify({ ...session, token: "a.b.c" }));
  };
  await ana.evaluate(spoil);
  await ana.reload();
  await ana.connection("connected");
  assert.equal(issuer.grants.refresh_token, 1);
  // From now on the issuer's tokens are for somebody else's program: Ana is put out, and another token does not help.
  const before = sockets.opened;
  await room.change({ issuers: [{ ...issuer.entry, audiences: ["another"] }] });
  await ana.page.waitForSelector("#gate:not([hidden])");
  assert.deepEqual(await ana.contents("#gate-title"), ["A sala não aceita o seu login"]);
  assert.deepEqual(await ana.contents("#gate-actions button"), ["Fazer login de novo", "Usar outra conta"]);
  assert.ok(sockets.opened - before <= 2, `${sockets.opened - before} connections`);
});

test("guests are told apart from people who are signed in", async (t) => {
  const issuer = await Issuer.start(t, { people: PEOPLE });
  const room = await startRoom(t, issuer, { guests: "Write" });
  const ana = await ChatWindow.open(t, room.url);
  await ana.click("#name-sign-in");
  await passForms(ana, "ana");
  await ana.say("sou eu");
  await ana.sees("sou eu", "sent");
  const guest = await ChatWindow.open(t, room.url);
  await guest.page.fill("#name-input", "Аnа Souza");
  await guest.page.press("#name-input", "Enter");
  await guest.until(() => document.getElementById("name-error").textContent.startsWith("Este nome é de alguém que fez login"));
  await guest.enter("Ana verificada ✓");
  await guest.say("eu não");
  for (const window of [ana, guest]) {
    const article = (await window.sees("eu não")).first();
    await window.sees("sou eu");
    assert.equal(await article.locator(".author").textContent(), "Ana verificada ✓ convidado");
    assert.deepEqual(await window.message("sou eu").locator(".guest").count(), 0);
  }
  const read = await ana.page.locator("#messages").ariaSnapshot();
  assert.match(read, /Ana verificada ✓ convidado/, "a screen reader says it too");
  // The guest signs in, and is a guest no more.
  await guest.click("#sign-in-btn");
  await passForms(guest, "bia");
  await guest.say("agora sim");
  assert.equal(await (await ana.sees("agora sim")).locator(".guest").count(), 0);
});

test("somebody who may not read is told so, and can use another account", async (t) => {
  const issuer = await Issuer.start(t, { people: PEOPLE });
  const room = await startRoom(t, issuer, { read: ["group:staff"], write: ["group:staff"] });
  const window = await ChatWindow.open(t, room.url);
  await window.click("#gate-actions button");
  await sendForms(window, "eva");
  await window.until(() => document.getElementById("gate-title").textContent === "Você não pode entrar nesta sala");
  assert.match((await window.contents("#gate-words"))[0], /Você fez login como eva\./);
  await window.page.getByRole("button", { name: "Usar outra conta" }).click();
  await window.click("button[value=yes]");
  await window.until(() => document.getElementById("gate-title")?.textContent === "Faça login para entrar");
  await signIn(window, "ana");
  await window.say("com a outra conta");
  await window.sees("com a outra conta", "sent");
});

test("the page follows what the person may do", async (t) => {
  const issuer = await Issuer.start(t, { people: PEOPLE });
  const room = await startRoom(t, issuer, { guests: "Read" });
  const ana = await ChatWindow.open(t, room.url);
  const { sockets, prepare } = countSockets();
  const guest = await ChatWindow.open(t, room.url, { prepare });
  await guest.connection("connected");
  await ana.click("#sign-in-to-write");
  await passForms(ana, "ana");
  await ana.fill("#message-input", "um rascunho");
  await room.change({ guests: "Write", write: ["group:nobody"] });
  await ana.page.waitForSelector("#read-only:not([hidden])");
  assert.ok(await ana.page.isHidden("#composer"));
  await guest.page.waitForSelector("#composer:not([hidden])");
  await guest.say("agora eu escrevo");
  await ana.sees("agora eu escrevo");
  await room.change({ guests: "None" });
  await ana.page.waitForSelector("#composer:not([hidden])");
  assert.equal(await ana.page.inputValue("#message-input"), "um rascunho");
  await guest.page.waitForSelector("#gate:not([hidden])");
  assert.deepEqual(await guest.contents("#gate-actions button"), ["Fazer login"]);
  assert.equal(sockets.opened, 1, "rights change on the same connection");
  await room.change({ denied: { subjects: ["ana"] } });
  await ana.page.waitForSelector("#gate:not([hidden])");
  assert.deepEqual(await ana.contents("#gate-title"), ["Você não pode entrar nesta sala"]);
  await room.change({});
  await tryAgain(ana);
});

test("a room without a sign-in says what it can", async (t) => {
  const issuer = await Issuer.start(t, { people: PEOPLE });
  const room = await startRoom(t, issuer, { signIn: null });
  const window = await ChatWindow.open(t, room.url);
  await window.page.waitForSelector("#gate:not([hidden])");
  assert.deepEqual(await window.contents("#gate-title"), ["Esta sala é só para quem faz login"]);
  assert.deepEqual(await window.contents("#gate-actions button"), ["Recarregar a página"]);
});

test("ID tokens serve where access tokens are opaque", async (t) => {
  const issuer = await Issuer.start(t, { people: PEOPLE, tokenLifetime: 8 });
  const room = await startRoom(t, issuer, { read: ["group:staff"], signIn: { token: "Id", resource: undefined, scopes: ["openid", "profile", "groups"] } });
  const { sockets, prepare } = countSockets();
  const ana = await ChatWindow.open(t, room.url, { prepare });
  await signIn(ana, "ana");
  await until("the token is renewed", () => issuer.grants.refresh_token >= 1);
  await ana.say("com o token de identidade");
  await ana.sees("com o token de identidade", "sent");
  assert.equal(sockets.opened, 1);
});

test("people sign in to a room below a path", async (t) => {
  const issuer = await Issuer.start(t, { people: PEOPLE });
  const room = await startRoom(t, issuer, {}, "--base-path", "/chat/geral");
  const { url } = await Paths.to([{ path: "/chat/geral/", port: room.server.port }], { test: t });
  issuer.register(`${url}/chat/geral/`);
  const ana = await ChatWindow.open(t, `${url}/chat/geral/?de=convite`);
  await signIn(ana, "ana");
  assert.equal(ana.page.url(), `${url}/chat/geral/`);
  assert.deepEqual(Object.keys(await ana.evaluate(() => ({ ...sessionStorage }))).filter((key) => /session/.test(key)), ["papo.session /chat/geral/"]);
});

/** Begins a sign-in in which `change(parameters)` alters what the page sends to the issuer. */
async function altered(t, change) {
  const issuer = await Issuer.start(t, { people: PEOPLE });
  const room = await startRoom(t, issuer);
  const window = await ChatWindow.open(t, room.url);
  const sent = {};
  await window.page.route(({ href }) => href.startsWith(`${issuer.url}/auth?`), (route) => {
    const url = new URL(route.request().url());
    Object.assign(sent, Object.fromEntries(url.searchParams));
    change(url.searchParams);
    return route.continue({ url: url.href });
  });
  await window.click("#gate-actions button");
  return { window, sent };
}

/** Waits until the page says that the sign-in could not be completed, and checks that it has kept no token. */
async function fails(window, words = "Não foi possível concluir o login.") {
  await window.until((words) => document.getElementById("gate-error")?.textContent.startsWith(words), words);
  assert.deepEqual(Object.keys(await window.evaluate(() => ({ ...sessionStorage }))), []);
  assert.doesNotMatch(window.page.url(), /\?/);
}

test("an answer to another sign-in is not taken", async (t) => {
  const { window } = await altered(t, (parameters) => parameters.set("state", "another"));
  await sendForms(window, "ana");
  await fails(window);
});

test("an ID token of another sign-in is not taken", async (t) => {
  const { window } = await altered(t, (parameters) => parameters.set("nonce", "another"));
  await sendForms(window, "ana");
  await fails(window);
});

test("a code is of no use without the page's own secret", async (t) => {
  const { window, sent } = await altered(t, (parameters) => parameters.set("code_challenge", "A".repeat(43)));
  await sendForms(window, "ana");
  await fails(window, "O serviço de login recusou o pedido");
  const { response_type, code_challenge_method, client_id, resource, scope } = sent;
  assert.deepEqual({ response_type, code_challenge_method, client_id, resource, scope }, { response_type: "code", code_challenge_method: "S256", client_id: CLIENT, resource: RESOURCE, scope: "openid profile" });
});

test("an answer that no sign-in of this window waits for is nothing", async (t) => {
  const issuer = await Issuer.start(t, { people: PEOPLE });
  const room = await startRoom(t, issuer, { guests: "Write" });
  const window = await ChatWindow.open(t, `${room.url}?code=abc&state=def`, { name: "Rui" });
  assert.equal(window.page.url(), room.url);
  assert.deepEqual(issuer.grants, {});
  assert.deepEqual(window.errors, []);
});

test("a sign-in can be cancelled", async (t) => {
  const issuer = await Issuer.start(t, { people: PEOPLE });
  const room = await startRoom(t, issuer);
  const window = await ChatWindow.open(t, room.url);
  await window.click("#gate-actions button");
  await window.click("a[href$='/abort']");
  await fails(window, "O login foi cancelado.");
});

test("the page says that the issuer does not answer", async (t) => {
  const issuer = await Issuer.start(t, { people: PEOPLE });
  const room = await startRoom(t, issuer);
  const window = await ChatWindow.open(t, room.url);
  issuer.answers = false;
  await window.click("#gate-actions button");
  await fails(window, `O serviço de login ${new URL(issuer.url).host} não responde`);
  issuer.answers = true;
  await signIn(window, "ana");
});

test("what one person has not sent is not sent by the next", async (t) => {
  const issuer = await Issuer.start(t, { people: PEOPLE });
  const room = await startRoom(t, issuer);
  const window = await ChatWindow.open(t, room.url);
  await signIn(window, "ana");
  await room.server.kill();
  await window.connection("reconnecting");
  await window.say("só da Ana");
  await window.sees("só da Ana", "pending");
  await window.evaluate(() => sessionStorage.setItem("papo.draft", '"rascunho da Ana"'));
  const other = JSON.stringify({ ...JSON.parse(await window.evaluate(() => sessionStorage.getItem("papo.session"))), token: await issuer.token("bia") });
  await window.page.addInitScript((session) => sessionStorage.setItem("papo.session", session), other);
  await room.server.start(...room.flags);
  await window.reload();
  await window.connection("connected");
  await window.say("sou a Bia");
  await window.sees("sou a Bia", "sent");
  assert.deepEqual(await window.texts(), ["sou a Bia"]);
  assert.equal(await window.page.inputValue("#message-input"), "");
});

test("the policy lets the page talk to the issuer, and to nobody else", async (t) => {
  const issuer = await Issuer.start(t, { people: PEOPLE });
  const room = await startRoom(t, issuer, { guests: "Write" });
  const connect = async (url) => /connect-src ([^;]*)/.exec((await fetch(url)).headers.get("content-security-policy"))[1].trim();
  assert.equal(await connect(room.url), `'self' ${issuer.url}`);
  // An issuer that the room gets while the page is open is behind a policy of its own.
  const other = await Issuer.start(t, { people: PEOPLE });
  other.register(room.url);
  const window = await ChatWindow.open(t, room.url, { name: "Rui" });
  await window.fill("#message-input", "um rascunho");
  await room.change({ guests: "Read", issuers: [other.entry] });
  await window.page.waitForSelector("#sign-in-to-write:not([hidden])");
  await until("the server has the new policy", async () => (await connect(room.url)) === `'self' ${other.url}`);
  await window.click("#sign-in-to-write");
  await passForms(window, "ana");
  assert.equal(await window.page.inputValue("#message-input"), "um rascunho");
  await window.say("no outro serviço");
  await window.sees("no outro serviço", "sent");
});

// Each theme and each size once: the page's own test has all four.
for (const [colorScheme, size, viewport] of [["light", "phone", PHONE], ["dark", "desktop", DESKTOP]]) {
  test(`axe finds nothing in any state of signing in, ${colorScheme}, ${size}`, async (t) => {
    const issuer = await Issuer.start(t, { people: PEOPLE });
    const room = await startRoom(t, issuer, { guests: "Read" }, "--title", "Papo da firma");
    const bia = await join(t, issuer, room, "bia");
    const window = await ChatWindow.open(t, room.url, { colorScheme, viewport, bypassCSP: true, reducedMotion: "reduce" });
    const state = async (name) => {
      await accessible(window, `${name}, ${colorScheme}, ${size}`);
      assert.equal(await window.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), 0, name);
      await window.screenshot(`sign-in-${name.replaceAll(" ", "-")}-${size}-${colorScheme}`);
    };
    await bia.say("Oi! A pauta: https://example.org/pauta");
    await window.sees("Oi! A pauta: https://example.org/pauta");
    await state("a guest who reads");
    assert.equal(await window.evaluate(() => document.activeElement.id), "sign-in-to-write", "the keyboard is where the person goes on");
    await room.change({ guests: "Write" });
    await window.page.waitForSelector("#composer:not([hidden])");
    await window.say("convidado escreve");
    await window.page.waitForSelector(".guest", { state: "attached" });
    const other = await Member.join(room.url, "Rui", { test: t });
    await other.say("outro convidado");
    await window.sees("outro convidado");
    await state("a guest who writes");
    await window.click("#name-btn");
    await window.page.waitForSelector("#name-dialog[open]");
    await state("the dialog of the name");
    await window.click("#name-sign-in");
    await passForms(window, "ana");
    await state("signed in");
    await window.click("#account-btn");
    await window.page.waitForSelector("#account-dialog[open]");
    await state("the account");
    await window.click("#account-close");
    await room.change({ guests: "Write", write: ["group:nobody"] });
    await window.page.waitForSelector("#read-only:not([hidden])");
    await state("somebody who may only read");
    await room.change({ read: ["group:nobody"], write: ["group:nobody"] });
    await window.page.waitForSelector("#gate:not([hidden])");
    await state("somebody who may not enter");
    await room.change({});
    await tryAgain(window);
    await window.page.evaluate(() => {
      const session = JSON.parse(sessionStorage.getItem("papo.session"));
      sessionStorage.setItem("papo.session", JSON.stringify({ ...session, token: null, refreshToken: null }));
    });
    await window.reload();
    await window.page.waitForSelector("#gate:not([hidden])");
    await state("a session that has ended");
    assert.equal(await window.evaluate(() => document.activeElement.textContent), "Fazer login de novo");
    issuer.answers = false;
    await window.click("#gate-actions button");
    await window.until(() => document.getElementById("gate-error").textContent);
    await state("an issuer that does not answer");
  });
}

test("vendored libraries are as npm has them", () => {
  for (const [vendored, original] of [
    ["oauth4webapi.js", "oauth4webapi/build/index.js"],
    ["oauth4webapi.LICENSE", "oauth4webapi/LICENSE.md"],
    ["socket.io.min.js", "socket.io-client/dist/socket.io.min.js"],
  ]) {
    assert.equal(readFileSync(root(`web/static/vendor/${vendored}`), "utf8"), readFileSync(root(`tests/node_modules/${original}`), "utf8"), vendored);
  }
});
