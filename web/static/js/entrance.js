// The entrance: who this person enters the room as, and what the page offers somebody who cannot enter, or can only read.
//
// The server decides who may enter. What it decides comes as rejections, and as rights in `you`. The rules that it publishes spare the page a
// question whose answer is known, and say where people sign in.

import { loadAccess, OPEN, sameSignIn } from "./access.js";
import { signInProblem } from "./i18n.js";
import { isAnswer, redirectUri } from "./oidc.js";

const TOKEN_TIMEOUT = 10_000;
/** Between two tries to renew the token of an open connection, in milliseconds: a half to one and a half of it, so that not all pages ask an issuer
 * at once that has come back. */
const PAUSE = 5_000;
/** Rejections of a new token that end by themselves. */
const PASSING = new Set(["rate_limited", "unavailable"]);

export class Entrance {
  access = OPEN;
  #session;
  #page;
  #gate;
  #notice;
  /** The issuer that the policy of this page allows: that of the rules when the page was loaded. */
  #allowed;
  #hasTriedAgain = false;
  #isRenewing = false;
  #isLeaving = false;

  /**
   * `page`: `enter()`, `reconnect()`, `disconnect()`, `isConnected()`, `state(kind, code)`, `request(event, argument, timeout)`, `askName(why)`,
   * `you(you)`; `changed()` after the rules or the session have changed; `keep()` what the person writes, and `forget()` it; `isEmpty()`: no conversation
   * is shown. `resume`: a stored value, `true` if the page goes on to sign in after it was loaded.
   */
  constructor({ session, page, gate, notice, resume }) {
    this.#session = session;
    this.#page = page;
    this.#gate = gate;
    this.#notice = notice;
    this.resume = resume;
    // A browser can show this page again as it was left.
    window.addEventListener("pageshow", () => (this.#isLeaving = false));
  }

  /** Whether the room has people who are signed in beside guests. */
  get tellsApart() {
    return this.access.signIn !== null || this.access.guests !== "Write";
  }

  /** Whether the page can sign somebody in, and nobody is. */
  get offersSignIn() {
    return this.access.signIn !== null && this.#session.status === "none";
  }

  /** What the person may do, until the server says it. */
  get likelyRights() {
    if (this.#session.status !== "none" || this.access.guests === "Write") return ["read", "write"];
    return this.access.guests === "Read" ? ["read"] : [];
  }

  /** The page is loaded. `hasName`: whether the person has been asked for a name. */
  async open(hasName) {
    const [access, problem] = await Promise.all([loadAccess(), this.#finish()]);
    if (access) this.access = access;
    this.#allowed = this.access.signIn?.issuer;
    // Tokens of an issuer or a client that the room does not use any more.
    if (access && !sameSignIn(this.#session.config, access.signIn)) this.#session.drop();
    this.#page.changed();
    const { status } = this.#session;
    const resumes = this.resume.get() === true;
    this.resume.set(null);
    if (status === "active") return this.enter();
    if (resumes && this.access.signIn) return this.signIn();
    if (status === "ended") return this.#close("ended", problem);
    if (this.access.guests === "None" && this.access.signIn) return this.#close("signIn", problem);
    if (problem) this.#notice.show("problem", problem);
    if (this.access.guests === "Write" && !hasName) this.#page.askName({ words: problem });
    else this.enter();
  }

  enter() {
    this.#gate.hide();
    this.#page.enter();
  }

  /** As `enter`, with a token that has the person's present groups. */
  async tryAgain() {
    await this.#session.refresh();
    this.enter();
  }

  /** Before each connection: whether it can be made now ("ready"), "later" or "never". */
  async ready() {
    const result = await this.#session.fresh();
    if (result === "ready") return result;
    if (result === "unreachable") {
      this.#page.state("rejected", "issuer_unreachable");
      return "later";
    }
    this.#ended();
    return "never";
  }

  /** The person is in the room. */
  entered() {
    this.#hasTriedAgain = false;
    this.#gate.hide();
    this.#notice.hide("ended", "expiring");
  }

  /** The server has rejected or closed the connection; returns whether something else than time leads to the next one. */
  rejected(code, reason) {
    if (code === "invalid_name" || code === "name_taken") {
      this.#page.state("rejected", code);
      this.#page.askName({ code, reason });
    } else if (code === "forbidden") this.#turnedAway("forbidden");
    else if (code === "unauthenticated" && this.#session.status === "none") this.#turnedAway("closed");
    else if ((code === "unauthenticated" || code === "token_expired") && this.#session.status !== "none") this.#refused(reason);
    // A proxy that signs people in may have a newer token: the next connection has it.
    else return false;
    return true;
  }

  /** The server does not accept the token: tries another, once. */
  #refused(reason) {
    this.#session.reject();
    if (this.#hasTriedAgain) {
      this.#session.end();
      this.#close("refused", reason);
    } else {
      this.#hasTriedAgain = true;
      this.#page.reconnect();
    }
  }

  /** The person may not enter, or not as a guest: the rules may be newer than those that the page knows. */
  async #turnedAway(kind) {
    this.#page.disconnect();
    await this.#reload();
    const needsSignIn = this.offersSignIn && (kind === "closed" || this.access.guests === "None");
    this.#close(needsSignIn ? "signIn" : kind);
  }

  /** The token expires soon: gets another, and gives it to the server on the open connection. */
  async expiring() {
    if (this.#isRenewing) return;
    this.#isRenewing = true;
    const result = await this.#renew().catch(() => "ended");
    this.#isRenewing = false;
    if (result === "renewed") this.#notice.hide("expiring");
    else if (result === "ended" && this.#session.status === "active") this.#notice.show("expiring");
  }

  async #renew() {
    let hasNew = false;
    while (this.#session.status === "active" && this.#page.isConnected()) {
      const result = hasNew ? "refreshed" : await this.#session.refresh();
      if (result === "ended") return result;
      hasNew = result === "refreshed";
      // Without an answer the connection is lost, and the next one has the new token.
      const answer = hasNew ? await this.#page.request("token", this.#session.token, TOKEN_TIMEOUT).catch(() => null) : null;
      if (answer?.ok) {
        this.#session.prolong(answer.expiresIn);
        if (answer.you) this.#page.you(answer.you);
        return "renewed";
      }
      if (answer && !PASSING.has(answer.code)) return "ended";
      await pause(PAUSE * (0.5 + Math.random()));
    }
    return "closed";
  }

  /** What the person may do has changed: the rules may have changed too. */
  changed() {
    return this.#reload();
  }

  /** Sends the person to the issuer. */
  async signIn() {
    const { signIn } = this.access;
    if (!signIn || this.#isLeaving) return;
    this.#isLeaving = true;
    this.#page.keep();
    try {
      const isAllowed = signIn.issuer === this.#allowed;
      if (isAllowed) location.assign(await this.#session.begin(signIn));
      else {
        // The policy of this page is older than the rules.
        this.resume.set(true);
        location.reload();
      }
    } catch (error) {
      this.#isLeaving = false;
      const words = signInProblem(error);
      if (this.#gate.isOpen) this.#gate.complain(words);
      else if (!this.#page.isEmpty()) this.#notice.show("problem", words);
      else if (this.access.guests === "Write") this.#page.askName({ words });
      else this.#close("signIn", words);
    }
  }

  /** Forgets the person here, and at the issuer. */
  async signOut() {
    if (this.#isLeaving) return;
    this.#isLeaving = true;
    this.#page.disconnect();
    this.#page.forget();
    const address = await this.#session.leave();
    if (address) location.assign(address);
    else location.reload();
  }

  /** Forgets the person whose session has ended, here. */
  goOnAsGuest() {
    this.#page.forget();
    this.#session.drop();
    location.reload();
  }

  /** Takes the issuer's answer, if the page was loaded with one, out of the address bar. Returns in words what has gone wrong. */
  async #finish() {
    const address = location.href;
    if (!isAnswer(address)) return undefined;
    history.replaceState(null, "", redirectUri());
    try {
      await this.#session.finish(address);
      return undefined;
    } catch (error) {
      return signInProblem(error);
    }
  }

  async #reload() {
    const access = await loadAccess();
    if (access) this.access = access;
    this.#page.changed();
  }

  /** There is no token any more. What the person reads and writes stays. */
  #ended() {
    if (this.#page.isEmpty()) return this.#close("ended");
    this.#page.state("signedOut");
    this.#notice.show("ended");
  }

  #close(kind, words) {
    this.#page.disconnect();
    this.#page.state("signedOut");
    this.#notice.hide();
    this.#gate.show(kind, { account: this.#session.account, access: this.access, words });
  }
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
