// Tests of the session without a browser and an issuer: when tokens are renewed, and what ends them.

import assert from "node:assert/strict";
import { test } from "node:test";

globalThis.navigator ??= { language: "pt-BR" };
const load = (name) => import(`../../web/static/js/${name}.js`);
const { accessFrom, OPEN, sameSignIn } = await load("access");
const { accountOf, claimsOf } = await load("claims");
globalThis.window ??= { addEventListener: () => {} };
const { Entrance } = await load("entrance");
const { isAnswer, SignInError } = await load("oidc");
const { Session } = await load("session");
const { messageFrom } = await load("message");
const { rows } = await load("rows");
const { Timeline } = await load("timeline");

const CONFIG = { issuer: "https://id.example", clientId: "papo", scopes: ["openid"], token: "Access" };
const MINUTE = 60_000;

function stored(value = null) {
  const place = { value, get: () => place.value, set: (value) => (place.value = value && structuredClone(value)) };
  return place;
}

/** A session, and an issuer that answers each refresh with the next of these: tokens, or the reason of an error. */
function begin(tokens, ...answers) {
  const asked = [];
  const oidc = {
    refresh: async (config, refreshToken) => {
      asked.push(refreshToken);
      const answer = answers.shift();
      if (typeof answer === "string") throw new SignInError(answer);
      return answer;
    },
    signOut: async (config, idToken) => `https://id.example/end?hint=${idToken}`,
  };
  const places = { store: stored(tokens && { config: CONFIG, idToken: "i", lifetime: 10 * MINUTE, ...tokens }), pending: stored() };
  return { session: new Session({ ...places, oidc, canHash: () => true }), asked, ...places };
}
const at = (minutes) => Date.now() + minutes * MINUTE;
const renewed = { token: "b", refreshToken: "s", lifetime: 10 * MINUTE };

test("a token is renewed before a connection if it ends soon", async () => {
  const fresh = begin({ token: "a", refreshToken: "r", expiresAt: at(5) }, renewed);
  assert.deepEqual([await fresh.session.fresh(), fresh.asked], ["ready", []]);
  const old = begin({ token: "a", refreshToken: "r", expiresAt: at(0.4) }, renewed);
  assert.deepEqual([await old.session.fresh(), old.session.token, old.asked], ["ready", "b", ["r"]]);
  assert.deepEqual([old.store.value.refreshToken, old.store.value.idToken], ["s", "i"], "what the issuer does not give again stays");
  const guest = begin(null);
  assert.deepEqual([await guest.session.fresh(), guest.session.status], ["ready", "none"]);
});

test("an issuer that is down keeps nobody out whose token is good", async () => {
  const good = begin({ token: "a", refreshToken: "r", expiresAt: at(0.1) }, "unreachable");
  assert.deepEqual([await good.session.fresh(), good.session.token], ["ready", "a"]);
  const over = begin({ token: "a", refreshToken: "r", expiresAt: at(-10) }, "unreachable", renewed);
  assert.deepEqual([await over.session.fresh(), over.session.status], ["unreachable", "active"]);
  assert.deepEqual([await over.session.fresh(), over.session.token], ["ready", "b"], "it is asked again");
});

test("a session ends when nothing renews it", async () => {
  for (const [tokens, ...answers] of [
    [{ token: "a", expiresAt: at(-10) }],
    [{ token: "a", refreshToken: "r", expiresAt: at(-10) }, "refused"],
    [{ token: "a", refreshToken: "r", expiresAt: at(-10) }, "failed"],
  ]) {
    const { session, store } = begin({ ...tokens, account: "ana" }, ...answers);
    assert.deepEqual([await session.fresh(), session.status, session.token, session.account], ["ended", "ended", undefined, "ana"]);
    assert.deepEqual([store.value.token, store.value.refreshToken], [null, null]);
  }
});

test("a token that the server rejects is not used again", async () => {
  const { session, asked } = begin({ token: "a", refreshToken: "r", expiresAt: at(5) }, renewed);
  session.reject();
  assert.deepEqual([await session.fresh(), session.token, asked], ["ready", "b", ["r"]]);
  assert.deepEqual([await session.fresh(), asked], ["ready", ["r"]]);
  const without = begin({ token: "a", expiresAt: at(5) });
  without.session.reject();
  assert.equal(await without.session.fresh(), "ended");
});

test("calls at the same time renew the token once", async () => {
  const { session, asked } = begin({ token: "a", refreshToken: "r", expiresAt: at(5) }, renewed);
  assert.deepEqual(await Promise.all([session.refresh(), session.refresh()]), ["refreshed", "refreshed"]);
  assert.deepEqual(asked, ["r"]);
});

test("pages renew their tokens at different times when an issuer comes back", async (context) => {
  const pauses = [];
  context.mock.method(globalThis, "setTimeout", (act, milliseconds) => {
    pauses.push(milliseconds);
    queueMicrotask(act);
  });
  for (const random of [0, 0.5, 1]) {
    context.mock.method(Math, "random", () => random);
    const answers = ["unreachable", "refreshed"];
    const session = { status: "active", token: "a", refresh: async () => answers.shift(), prolong: () => {} };
    const page = { isConnected: () => true, request: async () => ({ ok: true, expiresIn: 600 }) };
    await new Entrance({ session, page, notice: { hide: () => {} } }).expiring();
    assert.deepEqual(answers, []);
  }
  assert.deepEqual(pauses, [2_500, 5_000, 7_500]);
});

test("whoever signs out while a token is renewed is signed out", async () => {
  const { session, store } = begin({ token: "a", refreshToken: "r", expiresAt: at(5) }, renewed);
  const refreshed = session.refresh();
  assert.equal(await session.leave(), "https://id.example/end?hint=i");
  assert.deepEqual([await refreshed, session.status, store.value], ["ended", "none", null]);
});

test("a browser that cannot hash or store signs nobody in", async () => {
  const oidc = { begin: async () => ({ url: "https://id.example/auth", pending: { state: "s" } }) };
  const reason = (session) => session.begin(CONFIG).then(() => "none", ({ reason }) => reason);
  const forgetful = { get: () => null, set: () => {} };
  assert.equal(await reason(new Session({ store: stored(), pending: stored(), oidc, canHash: () => false })), "insecure");
  assert.equal(await reason(new Session({ store: stored(), pending: forgetful, oidc, canHash: () => true })), "storage");
  assert.equal(await reason(new Session({ store: stored(), pending: stored(), oidc, canHash: () => true })), "none");
});

test("stored values that are no session are none", () => {
  for (const value of [5, "x", {}, { config: 7 }, { token: "a" }, { config: { ...CONFIG, scopes: 5 }, token: "a" }, { config: { ...CONFIG, token: "Other" }, token: "a" }]) {
    const session = new Session({ store: stored(value), pending: stored(value), oidc: {}, canHash: () => true });
    assert.equal(session.status, "none", JSON.stringify(value));
  }
  const { session } = begin({ token: "a", refreshToken: 5, expiresAt: "soon", lifetime: {}, account: [] });
  assert.deepEqual([session.status, session.account], ["active", ""]);
});

test("rules that the page does not understand are those of an open room", () => {
  assert.deepEqual(accessFrom({}), OPEN);
  assert.deepEqual(accessFrom({ guests: "Perhaps", signIn: { issuer: 5 }, title: 7 }), OPEN);
  const { guests, signIn, title } = accessFrom({ guests: "None", signIn: { ...CONFIG, resource: "urn:x" }, title: "Papo da firma" });
  assert.deepEqual([guests, signIn, title], ["None", { ...CONFIG, resource: "urn:x" }, "Papo da firma"]);
  assert.ok(sameSignIn(CONFIG, { ...CONFIG, scopes: ["other"] }));
  for (const other of [null, { ...CONFIG, issuer: "https://other.example" }, { ...CONFIG, clientId: "x" }, { ...CONFIG, token: "Id" }]) assert.ok(!sameSignIn(CONFIG, other));
});

test("an issuer's answer is known by its parameters", () => {
  for (const [query, expected] of [["code=a&state=b", true], ["error=access_denied&state=b", true], ["code=a", false], ["state=b", false], ["de=convite", false]]) {
    assert.equal(isAnswer(`https://papo.example/chat/?${query}`), expected, query);
  }
});

test("claims are read from a token, and from nothing else", () => {
  const token = (claims) => `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.x`;
  assert.deepEqual(claimsOf(token({ sub: "ñ😀" })), { sub: "ñ😀" });
  for (const text of ["", "a", "a.b.c", `e30.${Buffer.from("5").toString("base64url")}.x`]) assert.equal(claimsOf(text).sub, undefined);
  assert.equal(accountOf(token({ sub: "s", name: "Ana", email: "ana@example.org" })), "ana@example.org");
  assert.equal(accountOf(token({ sub: 7 })), "");
});

test("a guest is told apart where people are signed in", () => {
  const timeline = new Timeline();
  const message = (offset, verified) => messageFrom({ text: "t", id: `m${offset}`, offset, user: "U", sender: `s${offset}`, at: offset, verified });
  const guests = (options) => rows({ timeline, outbox: [], me: { user: "", sender: "" }, marker: null, loading: false, ...options }).flatMap(({ kind, guest }) => (kind === "message" ? [guest] : []));
  timeline.begin({ epoch: "e", messages: [message(1), message(2, "yes")], recovered: false, more: false });
  assert.deepEqual([guests({}), guests({ apart: true })], [[false, false], [true, true]]);
  timeline.add(message(3, true));
  assert.deepEqual(guests({}), [true, true, false]);
});
