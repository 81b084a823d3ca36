// The page's entry: connects the modules. Events of the connection and of the person change the timeline and the outbox, and
// everything that the page shows follows from those two.

import { canHash, Stored } from "./browser.js";
import { Connection } from "./connection.js";
import { everyMidnight } from "./dates.js";
import { Entrance } from "./entrance.js";
import { translate } from "./i18n.js";
import { Identity, Twins } from "./identity.js";
import * as oidc from "./oidc.js";
import { Outbox } from "./outbox.js";
import { Presence } from "./presence.js";
import { randomId } from "./random.js";
import { rows } from "./rows.js";
import { Scrollback } from "./scrollback.js";
import { Session } from "./session.js";
import { Timeline } from "./timeline.js";
import { Typing, typingSignal } from "./typing.js";
import { Unread } from "./unread.js";
import { AccountView } from "./view/account.js";
import { Composer } from "./view/composer.js";
import { byId } from "./view/dom.js";
import { Gate } from "./view/gate.js";
import { LogView } from "./view/log.js";
import { NameDialog } from "./view/name.js";
import { Notice } from "./view/notice.js";
import { PeopleView } from "./view/people.js";
import { showConnection, showMe, showNewest, showRoom, showTitle, showTyping } from "./view/status.js";
import { TwinNotice } from "./view/twin.js";

/** Longer than the server's own time limit, so that the server's answer says what happened. */
const SEND_TIMEOUT = 20_000;
/** Used until the server has sent its own limits. */
const DEFAULT_NAME_LIMIT = 40;

translate(document);

const identity = new Identity();
const session = new Session({ store: new Stored("sessionStorage", "session"), pending: new Stored("sessionStorage", "sign-in"), oidc, canHash });
const draft = new Stored("sessionStorage", "draft");
/** The sender, if it is somebody who is signed in: what they have not sent is not for somebody else to send. */
const author = new Stored("sessionStorage", "author");
const timeline = new Timeline();
const presence = new Presence();
const unread = new Unread();
const senders = new Map();
let me = { user: identity.name, sender: "", verified: false, may: [] };
let room = "";
let nameLimit = DEFAULT_NAME_LIMIT;
let connected = false;
let toEnd = false;
let drawing = false;

const connection = new Connection(
  () => ({ ...whoIAm(), epoch: timeline.epoch ?? undefined, offset: timeline.newest ?? undefined }),
  {
    state: onState,
    history: onHistory,
    message: onMessage,
    presence: onPresence,
    typing: (who) => typing.heard(who),
    you: onYou,
    ready: () => entrance.ready(),
    rejected: (code, reason) => entrance.rejected(code, reason),
    expiring: () => entrance.expiring(),
  },
);
const outbox = new Outbox({
  store: new Stored("sessionStorage", "outbox"),
  send: (id, text) => connection.request("message", { id, text }, SEND_TIMEOUT),
  changed: draw,
});
const scrollback = new Scrollback(timeline, (page, timeout) => connection.page(page, timeout), draw);
const typing = new Typing(showTyping);
const ownTyping = typingSignal(() => connection.signal("typing"));
const log = new LogView(byId("messages"), { retry: (id) => outbox.retry(id), discard: (id) => outbox.discard(id), scrolled: onScrolled });
const people = new PeopleView();
const signIn = () => entrance.signIn();
const signOut = () => entrance.signOut();
const composer = new Composer({ send, typed: () => ownTyping.typed(), signIn });
const nameDialog = new NameDialog(enter, signIn);
const account = new AccountView({ signIn, signOut, unsent: () => outbox.entries.filter(({ state }) => state !== "sent").length });
const entrance = new Entrance({
  session,
  gate: new Gate({
    signIn,
    signInAgain: signIn,
    otherAccount: signOut,
    asGuest: () => entrance.goOnAsGuest(),
    tryAgain: () => entrance.tryAgain(),
    reload: () => location.reload(),
  }),
  notice: new Notice(signIn),
  resume: new Stored("sessionStorage", "sign-in-next"),
  page: {
    enter: join,
    reconnect: () => connection.renew(),
    disconnect: () => connection.close(),
    isConnected: () => connection.connected,
    isEmpty: () => timeline.epoch === null,
    request: (...request) => connection.request(...request),
    state: onState,
    askName,
    you: onYou,
    changed: showRights,
    keep: () => draft.set(composer.text || null),
    forget,
  },
});
const twinNotice = new TwinNotice(() => askName({ somebodyElse: true }));
const twins = new Twins(identity, isGuest, () => twinNotice.show(me.user));

byId("name-btn").addEventListener("click", () => askName({ name: identity.name ?? "" }));
byId("newest-btn").addEventListener("click", goToEnd);
document.addEventListener("visibilitychange", onScrolled);
everyMidnight(draw);

composer.text = draft.get() ?? "";
draft.set(null);
entrance.open(identity.name !== undefined);

/** Joins the room as a guest, under the given name. */
function enter(name, somebodyElse = false) {
  if (name !== identity.name || somebodyElse) identity.become(name, somebodyElse);
  entrance.enter();
}

/** Joins the room, or joins it again. */
function join() {
  twinNotice.hide();
  twins.ask();
  connection.renew();
  composer.focus();
}

/** What the server needs to know who this is: a token of the issuer, or a guest's name and secret. */
function whoIAm() {
  return session.token ? { accessToken: session.token } : { name: identity.name ?? undefined, token: identity.token };
}

/** Whether the guest's secret says who this is: nobody has signed in, here or at a proxy. */
function isGuest() {
  return session.status === "none" && !me.verified;
}

function askName(why = {}) {
  const name = why.code || why.somebodyElse ? (identity.name ?? "") : identity.name;
  nameDialog.ask({ name, limit: nameLimit, offersSignIn: entrance.offersSignIn, ...why });
}

/** Forgets what is not for the next person at this window. */
function forget() {
  composer.text = "";
  draft.set(null);
  author.set(null);
  outbox.clear();
}

function send(text) {
  unread.answered();
  ownTyping.sent();
  outbox.add(randomId(), text);
  goToEnd();
}

function onState(kind, code) {
  connected = kind === "connected" || kind === "draining";
  showConnection(kind, code);
  outbox.open(connected && me.may.includes("write"));
  if (!connected) typing.nobody();
}

/** The server says who this is and what they may do, or that it has changed. */
function onYou(you) {
  takeMe(you);
  showRights();
  showPeople();
  outbox.open(connected && me.may.includes("write"));
  draw();
  entrance.changed();
}

/** A server of an earlier version does not say what one may do. */
function takeMe({ user, sender, verified = false, may = ["read", "write"] }) {
  me = { user, sender, verified, may };
  if (author.get() && author.get() !== sender) forget();
  author.set(verified ? sender : null);
}

/** Shows who this is, and offers what they may do. */
function showRights() {
  const isIn = me.sender !== "";
  const offersSignIn = entrance.offersSignIn && !me.verified;
  const mayWrite = (isIn ? me.may : entrance.likelyRights).includes("write");
  if (isIn) showMe(me);
  if (me.verified) twinNotice.hide();
  // Somebody who has to sign in to write is offered it where they would write.
  account.show(me, session.status === "none" ? null : session.account, offersSignIn && mayWrite);
  composer.allow(mayWrite, offersSignIn);
  room ||= entrance.access.title;
  if (room) showRoom(room);
  draw();
}

function onHistory(page) {
  entrance.entered();
  takeMe(page.you);
  room = page.room.title;
  nameLimit = page.limits.nameLength;
  composer.limit = page.limits.messageLength;
  showRights();
  look();
  const missed = timeline.begin(page);
  if (!page.recovered) unread.forget();
  for (const message of missed) news(message);
  for (const { user, sender } of [...timeline.messages, me]) senders.set(user, sender);
  showPeople();
  settle(timeline.messages);
  draw();
}

function onMessage(message) {
  look();
  if (!timeline.add(message)) return;
  news(message);
  typing.stopped(message.sender);
  if (senders.get(message.user) !== message.sender) {
    senders.set(message.user, message.sender);
    showPeople();
  }
  settle([message]);
  draw();
}

function onPresence(event) {
  presence.take(event);
  showPeople();
}

function onScrolled() {
  look();
  draw();
}

/** Counts messages of others as unread while the person does not see the end of the conversation. */
function news(message) {
  if (message.sender !== me.sender) unread.arrived(message);
}

function settle(messages) {
  const own = messages.filter(({ sender }) => sender === me.sender);
  outbox.settle(new Set(own.map(({ id }) => id)), timeline);
}

function look() {
  unread.look(!document.hidden && log.atEnd && !timeline.detached);
}

async function goToEnd() {
  await scrollback.newest();
  toEnd = true;
  draw();
}

function showPeople() {
  people.show(presence, me, (name) => senders.get(name));
}

/** Draws once per frame. A hidden window has no frames, but its title changes. */
function draw() {
  if (drawing) return;
  drawing = true;
  if (document.hidden) setTimeout(drawNow);
  else requestAnimationFrame(drawNow);
}

function drawNow() {
  drawing = false;
  scrollback.bound(log.atEnd || toEnd);
  log.show(rows({ timeline, outbox: outbox.entries, me, marker: unread.marker, loading: scrollback.loading, apart: entrance.tellsApart }), { connected, toEnd });
  toEnd = false;
  look();
  showTitle(room, unread.count);
  showNewest(!log.atEnd || timeline.detached, unread.count);
  if (!connected || scrollback.loading) return;
  if (log.nearTop) scrollback.older();
  else if (log.nearEnd) scrollback.newer();
}
