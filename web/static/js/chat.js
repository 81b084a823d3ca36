// The page's entry: connects the modules. Events of the connection and of the person change the timeline and the outbox, and
// everything that the page shows follows from those two.

import { Stored } from "./browser.js";
import { Connection } from "./connection.js";
import { everyMidnight } from "./dates.js";
import { translate } from "./i18n.js";
import { Identity, Twins } from "./identity.js";
import { Outbox } from "./outbox.js";
import { Presence } from "./presence.js";
import { randomId } from "./random.js";
import { rows } from "./rows.js";
import { Scrollback } from "./scrollback.js";
import { Timeline } from "./timeline.js";
import { Typing, typingSignal } from "./typing.js";
import { Unread } from "./unread.js";
import { Composer } from "./view/composer.js";
import { byId } from "./view/dom.js";
import { LogView } from "./view/log.js";
import { NameDialog } from "./view/name.js";
import { PeopleView } from "./view/people.js";
import { showConnection, showMe, showNewest, showRoom, showTitle, showTyping } from "./view/status.js";
import { TwinNotice } from "./view/twin.js";

/** Longer than the server's own time limit, so that the server's answer says what happened. */
const SEND_TIMEOUT = 20_000;
/** Used until the server has sent its own limits. */
const DEFAULT_NAME_LIMIT = 40;

translate(document);

const identity = new Identity();
const timeline = new Timeline();
const presence = new Presence();
const unread = new Unread();
const senders = new Map();
let me = { user: identity.name, sender: "" };
let room = "";
let nameLimit = DEFAULT_NAME_LIMIT;
let connected = false;
let toEnd = false;
let drawing = false;

const connection = new Connection(
  () => ({ name: identity.name ?? undefined, token: identity.token, epoch: timeline.epoch ?? undefined, offset: timeline.newest ?? undefined }),
  { state: onState, history: onHistory, message: onMessage, presence: onPresence, typing: (who) => typing.heard(who) },
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
const composer = new Composer({ send, typed: () => ownTyping.typed() });
const nameDialog = new NameDialog(enter);
const twinNotice = new TwinNotice(() => nameDialog.ask({ name: identity.name, limit: nameLimit, somebodyElse: true }));
const twins = new Twins(identity, () => twinNotice.show(me.user));

byId("name-btn").addEventListener("click", () => nameDialog.ask({ name: identity.name ?? "", limit: nameLimit }));
byId("newest-btn").addEventListener("click", goToEnd);
document.addEventListener("visibilitychange", onScrolled);
everyMidnight(draw);

if (identity.name === undefined) nameDialog.ask({ limit: nameLimit });
else enter();

/** Joins the room under the stored name or the given one. */
function enter(name = identity.name, somebodyElse = false) {
  if (name !== identity.name || somebodyElse) identity.become(name, somebodyElse);
  twinNotice.hide();
  twins.ask();
  connection.renew();
  composer.focus();
}

function send(text) {
  unread.answered();
  ownTyping.sent();
  outbox.add(randomId(), text);
  goToEnd();
}

function onState(kind, code, reason) {
  connected = kind === "connected" || kind === "draining";
  showConnection(kind, code);
  outbox.open(connected);
  if (!connected) typing.nobody();
  if (code === "invalid_name") nameDialog.ask({ name: identity.name ?? "", limit: nameLimit, code, reason });
}

function onHistory(page) {
  me = page.you;
  room = page.room.title;
  nameLimit = page.limits.nameLength;
  composer.limit = page.limits.messageLength;
  showRoom(room);
  showMe(me);
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
  log.show(rows({ timeline, outbox: outbox.entries, me, marker: unread.marker, loading: scrollback.loading }), { connected, toEnd });
  toEnd = false;
  look();
  showTitle(room, unread.count);
  showNewest(!log.atEnd || timeline.detached, unread.count);
  if (!connected || scrollback.loading) return;
  if (log.nearTop) scrollback.older();
  else if (log.nearEnd) scrollback.newer();
}
