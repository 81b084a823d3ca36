// The session: the tokens of a person who is signed in. They are in memory and in this window's storage, and nowhere else; they end with the
// window. Pure, except for its storage, the clock and what talks to the issuer.

import { signInFrom } from "./access.js";
import { accountOf } from "./claims.js";
import { SignInError } from "./oidc.js";

/** A token is renewed before a connection if it ends within this time, or within a quarter of its lifetime. In milliseconds. */
const MARGIN = 30_000;
/** For so long after its end the server still takes a token. */
const LEEWAY = 30_000;

export class Session {
  #tokens;
  #store;
  #pending;
  #oidc;
  #canHash;
  #isStale = false;
  #refreshing = null;

  /** `store` keeps the tokens, `pending` a sign-in that the person has begun; `oidc` talks to the issuer. */
  constructor({ store, pending, oidc, canHash }) {
    this.#store = store;
    this.#pending = pending;
    this.#oidc = oidc;
    this.#canHash = canHash;
    this.#tokens = tokensFrom(store.get());
  }

  /** "none", "active", or "ended": the person was signed in, and the token is of no more use. */
  get status() {
    if (!this.#tokens) return "none";
    return this.#tokens.token ? "active" : "ended";
  }

  /** The token for the server; `undefined` if nobody is signed in. */
  get token() {
    return this.#tokens?.token ?? undefined;
  }

  /** What the person calls the account; "" if the token does not say it. */
  get account() {
    return this.#tokens?.account ?? "";
  }

  /** How the person has signed in. */
  get config() {
    return this.#tokens?.config ?? null;
  }

  /** Prepares a sign-in; returns the issuer's address for it. */
  async begin(config) {
    if (!this.#canHash()) throw new SignInError("insecure");
    const { url, pending } = await this.#oidc.begin(config);
    this.#pending.set(pending);
    if (!this.#pending.get()) throw new SignInError("storage");
    return url;
  }

  /** Takes the issuer's answer, an address. Without a sign-in that this window has begun it is nothing. */
  async finish(address) {
    const pending = pendingFrom(this.#pending.get());
    this.#pending.set(null);
    if (pending) this.#take(pending.config, await this.#oidc.finish(pending, address));
  }

  /** The server has not accepted the token: the next connection needs another. */
  reject() {
    this.#isStale = true;
  }

  /** Makes sure that there is a token to connect with: "ready", "ended" (sign in again), or "unreachable" (later). */
  async fresh() {
    if (this.status !== "active") return this.status === "none" ? "ready" : "ended";
    const { expiresAt, lifetime } = this.#tokens;
    const left = expiresAt === null ? Infinity : expiresAt - Date.now();
    if (!this.#isStale && left > Math.min(MARGIN, (lifetime ?? Infinity) / 4)) return "ready";
    const result = await this.refresh();
    if (result === "refreshed") return "ready";
    if (this.status !== "active") return "ended";
    if (!this.#isStale && left > -LEEWAY) return "ready";
    if (result === "ended") this.end();
    return result;
  }

  /** Gets new tokens: "refreshed", "ended" (there are none without signing in), or "unreachable". Calls at the same time are one. */
  refresh() {
    this.#refreshing ??= this.#refresh().finally(() => (this.#refreshing = null));
    return this.#refreshing;
  }

  async #refresh() {
    const { config, refreshToken } = this.#tokens ?? {};
    if (!refreshToken) return "ended";
    try {
      const tokens = await this.#oidc.refresh(config, refreshToken);
      // The person may have signed out meanwhile.
      if (this.#tokens?.refreshToken !== refreshToken) return "ended";
      this.#take(config, { ...tokens, idToken: tokens.idToken ?? this.#tokens.idToken, refreshToken: tokens.refreshToken ?? refreshToken });
      return "refreshed";
    } catch ({ reason }) {
      if (reason === "unreachable") return "unreachable";
      if (this.#tokens) this.#keep({ ...this.#tokens, refreshToken: null });
      return "ended";
    }
  }

  /** The server says how long it accepts the token, in milliseconds. */
  prolong(left) {
    if (this.status === "active" && left > 0) this.#keep({ ...this.#tokens, expiresAt: Date.now() + left });
  }

  /** The token is of no more use. The session remembers whose it was. */
  end() {
    if (this.#tokens) this.#keep({ ...this.#tokens, token: null, refreshToken: null });
  }

  /** Forgets the tokens; returns the issuer's address for signing out there too, or `null`. */
  async leave() {
    const { config, idToken } = this.#tokens ?? {};
    this.#keep(null);
    this.#pending.set(null);
    return config ? this.#oidc.signOut(config, idToken).catch(() => null) : null;
  }

  /** Forgets the tokens, which are of no use with the room's present rules. */
  drop() {
    this.#keep(null);
  }

  #take(config, { token, idToken, refreshToken, lifetime }) {
    this.#isStale = false;
    const expiresAt = lifetime && Date.now() + lifetime;
    this.#keep({ config, token, idToken, refreshToken, lifetime, expiresAt, account: accountOf(idToken ?? token) });
  }

  #keep(tokens) {
    this.#tokens = tokens;
    this.#store.set(tokens);
  }
}

const isText = (value) => typeof value === "string" && value !== "";
const isNumber = (value) => Number.isFinite(value);
const textOr = (value, otherwise) => (isText(value) ? value : otherwise);

/** Stored tokens that can be used, or `null`. Anybody with the browser can have written them. */
function tokensFrom(stored) {
  const config = signInFrom(stored?.config);
  if (!config) return null;
  const { token, idToken, refreshToken, lifetime, expiresAt, account } = stored;
  const times = { lifetime: isNumber(lifetime) ? lifetime : null, expiresAt: isNumber(expiresAt) ? expiresAt : null };
  return { config, token: textOr(token, null), idToken: textOr(idToken), refreshToken: textOr(refreshToken), ...times, account: textOr(account, "") };
}

function pendingFrom(stored) {
  const config = signInFrom(stored?.config);
  const { state, nonce, verifier } = stored ?? {};
  return config && [state, nonce, verifier].every(isText) ? { config, state, nonce, verifier } : null;
}
