// Tests of who may enter, with the official client and a real issuer: tokens in `auth` and in the header, rejections, and new tokens on an open
// connection.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { accessFile } from "../lib/access.mjs";
import { Issuer } from "../lib/issuer.mjs";
import { Member } from "../lib/member.mjs";
import { until } from "../lib/wait.mjs";
import { join, rooms } from "./room.mjs";

const PEOPLE = {
  ana: { name: "Ana Souza", groups: ["staff"] },
  bia: { name: "Bia", groups: ["staff"] },
  eva: { name: "Eva", groups: ["others"] },
};

/** An issuer, and a room that takes its tokens under these rules. */
async function begin(t, start, rules = {}, { tokenLifetime } = {}) {
  const issuer = await Issuer.start(t, { people: PEOPLE, tokenLifetime });
  const file = await accessFile(t, issuer.access(rules));
  const room = await start(t, "--access", file.path);
  return { ...room, issuer, change: (rules) => file.change(issuer.access(rules)) };
}

async function rejection(t, url, auth, options) {
  const member = new Member(url, auth, { test: t, reconnection: false, ...options });
  const errors = [];
  member.socket.on("connect_error", ({ data }) => errors.push(data));
  await until("the server has answered", () => errors.length || member.epoch);
  assert.ok(errors.length, "the server has let them in");
  assert.equal(typeof errors[0].message, "string");
  return errors[0].code;
}

for (const [where, start] of rooms) {
  describe(where, () => {
    test("a token says who somebody is", async (t) => {
      const { here, there, issuer } = await begin(t, start, { guests: "Write" });
      const ana = await join(t, here, { accessToken: await issuer.token("ana") });
      const again = await join(t, there, { accessToken: await issuer.token("ana"), name: "Outra", token: "the secret of a guest" });
      const guest = await join(t, there, { name: "Rui", token: "the secret of a guest" });
      const [{ you }, { you: other }, { you: visitor }] = [ana, again, guest].map(({ histories }) => histories[0]);
      assert.deepEqual([you.user, you.verified, you.may.toSorted()], ["Ana Souza", true, ["read", "write"]]);
      assert.deepEqual(other, you, "one person on two devices");
      assert.deepEqual([visitor.user, visitor.verified, visitor.may.toSorted()], ["Rui", false, ["read", "write"]]);
      assert.notEqual(visitor.sender, you.sender);
      await ana.say("verificada");
      await guest.say("convidado");
      for (const member of [ana, again, guest]) {
        assert.equal((await member.sees("verificada")).verified, true);
        assert.equal((await member.sees("convidado")).verified, undefined);
      }
      const late = await join(t, there, { accessToken: await issuer.token("bia") });
      assert.deepEqual(late.histories[0].messages.map(({ user, verified }) => [user, verified]), [["Ana Souza", true], ["Rui", undefined]]);
    });

    test("a token can come in the header of the request that opens the connection", async (t) => {
      const { here, there, issuer } = await begin(t, start);
      const header = async (login) => ({ extraHeaders: { Authorization: `Bearer ${await issuer.token(login)}` } });
      const ana = await join(t, here, {}, await header("ana"));
      const polling = await join(t, there, {}, { ...(await header("bia")), transports: ["polling"] });
      assert.deepEqual([ana, polling].map(({ histories }) => [histories[0].you.user, histories[0].you.verified]), [["Ana Souza", true], ["Bia", true]]);
      const both = await join(t, here, { accessToken: await issuer.token("eva") }, await header("ana"));
      assert.equal(both.histories[0].you.user, "Eva", "the token in auth counts");
      assert.equal(await rejection(t, here, {}, { extraHeaders: { Authorization: "Bearer a.b.c" } }), "unauthenticated");
    });

    test("tokens that are not accepted are rejected with a code", async (t) => {
      const { here, issuer } = await begin(t, start, { read: ["group:staff"], write: ["group:staff"], denied: { subjects: ["bia"] } });
      const stranger = await Issuer.start(t, { people: PEOPLE });
      const good = await issuer.token("ana");
      const [header, payload, signature] = good.split(".");
      const forged = Buffer.from(JSON.stringify({ ...JSON.parse(Buffer.from(payload, "base64url")), sub: "eva" })).toString("base64url");
      const none = Buffer.from('{"alg":"none","typ":"JWT"}').toString("base64url");
      for (const [accessToken, code] of [
        [undefined, "unauthenticated"],
        ["", "unauthenticated"],
        ["a.b.c", "unauthenticated"],
        [good.slice(0, -10), "unauthenticated"],
        [`${header}.${forged}.${signature}`, "unauthenticated"],
        [`${none}.${payload}.`, "unauthenticated"],
        ["x".repeat(20_000), "unauthenticated"],
        [await stranger.token("ana"), "unauthenticated"],
        [await issuer.token("ana", { audience: "another program" }), "unauthenticated"],
        [await issuer.token("ana", { lifetime: -120 }), "token_expired"],
        [await issuer.token("eva"), "forbidden"],
        [await issuer.token("bia"), "forbidden"],
      ]) {
        assert.equal(await rejection(t, here, { accessToken }), code, `${accessToken?.slice(0, 400)}`);
      }
      assert.equal((await join(t, here, { accessToken: good })).histories[0].you.user, "Ana Souza");
    });

    test("a new token on an open connection keeps it", async (t) => {
      const { here, there, issuer } = await begin(t, start, {}, { tokenLifetime: 6 });
      const bia = await join(t, there, { accessToken: await issuer.token("bia", { lifetime: 3600 }) });
      const ana = await join(t, here, { accessToken: await issuer.token("ana") });
      const expiring = [];
      ana.socket.on("token_expiring", (event) => expiring.push(event));
      for (const times of [1, 2]) {
        await until(`the server asks for a new token, ${times}`, () => expiring.length >= times);
        assert.ok(expiring.at(-1).in > 0 && expiring.at(-1).in <= 6_000, JSON.stringify(expiring));
        const answer = await ana.ask("token", await issuer.token("ana"));
        assert.deepEqual([answer.ok, answer.you.user], [true, "Ana Souza"], JSON.stringify(answer));
        assert.ok(answer.expiresIn > 3_000 && answer.expiresIn <= 6_000, `${answer.expiresIn} ms`);
        await ana.say(`com o token ${times}`);
        await bia.sees(`com o token ${times}`);
      }
      assert.deepEqual([ana.connections, ana.closes], [1, []]);
      // Another person's token, and what is no token, change nothing.
      assert.equal((await ana.ask("token", await issuer.token("bia"))).code, "forbidden");
      assert.equal((await ana.ask("token", "a.b.c")).code, "unauthenticated");
      assert.equal((await ana.ask("message", "ainda sou eu")).ok, true);
      assert.equal((await bia.sees("ainda sou eu")).user, "Ana Souza");
    });

    test("a guest's connection takes no token", async (t) => {
      const { here, issuer } = await begin(t, start, { guests: "Write" });
      const guest = await join(t, here, "Rui");
      assert.equal((await guest.ask("token", await issuer.token("ana"))).code, "forbidden");
      assert.equal((await guest.ask("message", "continuo convidado")).ok, true);
    });

    test("every event needs its right, and rights change without a new connection", async (t) => {
      const { here, there, issuer, change } = await begin(t, start, { guests: "Read", moderate: ["subject:bia"] });
      const [ana, bia] = [await join(t, here, { accessToken: await issuer.token("ana") }), await join(t, here, { accessToken: await issuer.token("bia") })];
      const guest = await join(t, there, "Rui");
      assert.deepEqual(guest.histories[0].you.may, ["read"]);
      assert.deepEqual(bia.histories[0].you.may.toSorted(), ["moderate", "read", "write"]);
      const answer = await guest.ask("message", "posso?");
      assert.deepEqual([answer.ok, answer.code, typeof answer.message], [false, "forbidden", "string"]);
      assert.equal((await guest.ask("history", { limit: 10 })).ok, true);
      const rights = new Map([ana, guest].map((member) => [member, []]));
      for (const [member, seen] of rights) member.socket.on("you", ({ may }) => seen.push(may.toSorted().join()));
      await change({ guests: "Write", write: ["subject:bia"] });
      await until("the rights have changed", () => rights.get(ana).includes("read") && rights.get(guest).includes("read,write"));
      assert.equal((await ana.ask("message", "e eu?")).code, "forbidden");
      assert.equal((await guest.ask("message", "agora sim")).ok, true);
      await change({ guests: "None" });
      await until("the guest is out, and Ana may write again", () => !guest.socket.connected && rights.get(ana).at(-1).includes("write"));
      assert.equal((await ana.ask("message", "de novo eu")).ok, true);
      assert.deepEqual([ana.connections, bia.connections], [1, 1]);
    });

    test("a guest cannot have the name of somebody who is signed in", async (t) => {
      const { here, issuer } = await begin(t, start, { guests: "Write" });
      await join(t, here, { accessToken: await issuer.token("ana") });
      assert.equal(await rejection(t, here, { name: "Аnа Sоuza" }), "name_taken");
      assert.equal((await join(t, here, { name: "Ana Maria" })).histories[0].you.user, "Ana Maria");
    });

    test("whoever is denied is put out, and stays out", async (t) => {
      const { here, there, issuer, change } = await begin(t, start, { guests: "Write" });
      const accessToken = await issuer.token("ana");
      const [ana, guest] = [await join(t, here, { accessToken }, { reconnection: false }), await join(t, there, "Rui", { reconnection: false })];
      const closed = new Map([ana, guest].map((member) => [member, []]));
      for (const [member, seen] of closed) member.socket.on("closed", ({ code, message }) => seen.push([code, typeof message]));
      await change({ guests: "Write", denied: { subjects: ["ana"], senders: [guest.sender] } });
      for (const [member, seen] of closed) {
        await until("they are out", () => !member.socket.connected);
        assert.deepEqual(seen, [["forbidden", "string"]]);
      }
      assert.equal(await rejection(t, there, { accessToken }), "forbidden");
    });
  });
}

test("a server without issuers takes no token", async (t) => {
  const issuer = await Issuer.start(t, { people: PEOPLE });
  const [, start] = rooms[0];
  const { here } = await start(t);
  const accessToken = await issuer.token("ana");
  assert.equal(await rejection(t, here, { accessToken }), "unauthenticated");
  const guest = await join(t, here, "Rui", { extraHeaders: { Authorization: `Bearer ${accessToken}` } });
  assert.equal(guest.histories[0].you.verified, false, "the header is for somebody else");
});
