// OpenID Connect: signs people in by the Authorization Code Flow with PKCE, and gets new tokens. It keeps nothing itself.
//
// The library is loaded when it is needed: most rooms do not need it. The page's policy lets the page talk to the issuer's origin only, so
// the issuer's token endpoint must be there.

import { timeLimit } from "./browser.js";
import { claimsOf } from "./claims.js";
import { PATH } from "./place.js";

const ANSWER_WITHIN = 15_000;
/** By so many seconds the clocks of this computer and of the issuer may differ. The server has a clock of its own for what counts. */
const CLOCK_TOLERANCE = 300;
/** Errors of an issuer that end by themselves (RFC 6749, 4.1.2.1). */
const PASSING = new Set(["server_error", "temporarily_unavailable"]);

/**
 * Why somebody could not be signed in. `reason` is "cancelled", "refused", "unreachable", "failed", "insecure" (this browser lets the page not
 * hash) or "storage" (or not store); `detail` is the issuer's word for it.
 */
export class SignInError extends Error {
  constructor(reason, cause, issuer) {
    super(`${reason}: ${cause?.message ?? cause}`, { cause });
    this.reason = reason;
    this.detail = reason === "unreachable" ? hostOf(issuer) : (cause?.error_description ?? cause?.error ?? "");
  }
}

/** Where the issuer sends the person back to: the page itself. */
export const redirectUri = () => new URL(PATH, location.href).href;

/** Prepares a sign-in: the issuer's address for it, and what `finish` needs afterwards. */
export function begin(config) {
  return guarded(config, async () => {
    const { oauth, server } = await discover(config);
    const pending = { config, state: oauth.generateRandomState(), nonce: oauth.generateRandomNonce(), verifier: oauth.generateRandomCodeVerifier() };
    const url = endpoint(server.authorization_endpoint);
    const parameters = {
      client_id: config.clientId,
      redirect_uri: redirectUri(),
      response_type: "code",
      scope: config.scopes.join(" "),
      state: pending.state,
      nonce: pending.nonce,
      code_challenge: await oauth.calculatePKCECodeChallenge(pending.verifier),
      code_challenge_method: "S256",
      ...(config.resource && { resource: config.resource }),
    };
    for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
    return { url: url.href, pending };
  });
}

/** Whether an address of the page has an issuer's answer. */
export function isAnswer(address) {
  const { searchParams } = new URL(address);
  return searchParams.has("state") && (searchParams.has("code") || searchParams.has("error"));
}

/** Exchanges the issuer's answer, the address to which it sent the person back, for tokens. An answer to another sign-in is rejected. */
export function finish({ config, state, nonce, verifier }, answer) {
  return guarded(config, async () => {
    const { oauth, server, client, options } = await discover(config);
    const parameters = oauth.validateAuthResponse(server, client, new URL(answer), state);
    const response = await oauth.authorizationCodeGrantRequest(server, client, oauth.None(), parameters, redirectUri(), verifier, withResource(config, options));
    const isOpenId = config.scopes.includes("openid");
    return tokens(config, await oauth.processAuthorizationCodeResponse(server, client, response, isOpenId ? { expectedNonce: nonce, requireIdToken: true } : {}));
  });
}

/** New tokens for a refresh token. */
export function refresh(config, refreshToken) {
  return guarded(config, async () => {
    const { oauth, server, client, options } = await discover(config);
    const response = await oauth.refreshTokenGrantRequest(server, client, oauth.None(), refreshToken, withResource(config, options));
    return tokens(config, await oauth.processRefreshTokenResponse(server, client, response));
  });
}

/** The issuer's address for signing out, which leads back to the page (RP-Initiated Logout 1.0); `null` if it has none. */
export function signOut(config, idToken) {
  return guarded(config, async () => {
    const { server } = await discover(config);
    if (!server.end_session_endpoint) return null;
    const url = endpoint(server.end_session_endpoint);
    const parameters = { client_id: config.clientId, post_logout_redirect_uri: redirectUri(), ...(idToken && { id_token_hint: idToken }) };
    for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
    return url.href;
  });
}

/** What the issuer says of itself (OpenID Connect Discovery 1.0), asked once. */
const discovered = new Map();
async function discover(config) {
  const oauth = await import("../vendor/oauth4webapi.js");
  const issuer = new URL(config.issuer);
  // The server allows an issuer without TLS only on its own machine.
  const options = { [oauth.allowInsecureRequests]: issuer.protocol === "http:", signal: () => timeLimit(ANSWER_WITHIN) };
  if (!discovered.has(config.issuer)) {
    const response = await oauth.discoveryRequest(issuer, options);
    discovered.set(config.issuer, await oauth.processDiscoveryResponse(issuer, response));
  }
  return { oauth, server: discovered.get(config.issuer), client: { client_id: config.clientId, [oauth.clockTolerance]: CLOCK_TOLERANCE }, options };
}

const withResource = ({ resource }, options) => (resource ? { ...options, additionalParameters: { resource } } : options);

/** An address to which the page may send the person. */
function endpoint(text) {
  const url = new URL(text);
  if (!/^https?:$/.test(url.protocol)) throw new Error(`${text} is no address of a page`);
  return url;
}

/** Tokens as the page keeps them: `token` is the one for the server, with its lifetime in milliseconds. */
function tokens({ token }, { access_token, id_token, refresh_token, expires_in }) {
  const chosen = token === "Id" ? id_token : access_token;
  if (!chosen) throw new Error("the issuer has returned no ID token");
  const { exp, iat } = claimsOf(chosen);
  const seconds = (token === "Access" && expires_in) || exp - iat;
  return { token: chosen, idToken: id_token, refreshToken: refresh_token, lifetime: seconds > 0 ? seconds * 1000 : null };
}

function hostOf(issuer) {
  try {
    return new URL(issuer).host;
  } catch {
    return issuer;
  }
}

/** The result, or a `SignInError`. */
async function guarded({ issuer }, work) {
  try {
    return await work();
  } catch (error) {
    console.warn("sign-in:", error);
    throw new SignInError(reasonOf(error), error, issuer);
  }
}

function reasonOf({ name, code, error, status, cause }) {
  if (error === "access_denied") return "cancelled";
  if (error) return PASSING.has(error) || status >= 500 ? "unreachable" : "refused";
  // A network that fails, a policy that forbids, and an issuer that does not allow this origin (CORS) look the same to a page.
  const isNetwork = ["TimeoutError", "AbortError", "NetworkError"].includes(name) || (name === "TypeError" && !code);
  return isNetwork || cause?.status >= 500 || cause?.status === 429 ? "unreachable" : "failed";
}
