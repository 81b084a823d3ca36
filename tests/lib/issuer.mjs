// An OpenID Connect issuer on loopback: the certified `oidc-provider`, with its own forms, where any name and password will do.

import { once } from "node:events";
import { createServer } from "node:http";

import Provider, { errors } from "oidc-provider";

export const CLIENT = "papo";
/** The protected resource for which the issuer makes access tokens that are JSON Web Tokens, and their audience. */
export const RESOURCE = "urn:papo:room";
export const AUDIENCE = "papo-room";

/** The issuer's warnings that its defaults are for development. */
const QUIET = ["info", "warn"];

export class Issuer {
  #server;
  #provider;
  #callback;
  #redirects = [];
  #tokenLifetime;
  #refreshes;
  /** The number of successful requests for tokens, by grant type. */
  grants = {};
  /** Whether it answers requests; `false` is an issuer that is down. */
  answers = true;

  /**
   * Starts an issuer for the test `t`. `people`: the claims of each login, such as `{ ana: { name: "Ana", groups: ["staff"] } }`;
   * `tokenLifetime` of access and ID tokens, in seconds; `refreshes`: whether it gives refresh tokens.
   */
  static async start(t, { people = {}, tokenLifetime = 3600, refreshes = true } = {}) {
    const issuer = new Issuer();
    issuer.people = people;
    issuer.#tokenLifetime = tokenLifetime;
    issuer.#refreshes = refreshes;
    issuer.#server = createServer((request, response) => issuer.#answer(request, response));
    issuer.#server.listen(0, "127.0.0.1");
    t.after(() => issuer.close());
    await once(issuer.#server, "listening");
    issuer.register();
    return issuer;
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  /** The issuer as an access file names it. */
  get entry() {
    return { issuer: this.url, audiences: [AUDIENCE, CLIENT] };
  }

  /** An access file of a room whose page signs people in here, unless `signIn` is null; `rules` are its other fields. */
  access({ signIn, ...rules } = {}) {
    return { issuers: [this.entry], signIn: signIn === null ? undefined : { clientId: CLIENT, resource: RESOURCE, ...signIn }, ...rules };
  }

  close() {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  /** Allows pages at these URLs to sign people in. */
  register(...pages) {
    this.#redirects.push(...pages.map((page) => new URL(page).href));
    this.#provider = quietly(() => new Provider(this.url, this.#configuration()));
    // The forms ask another host for a font.
    this.#provider.use(async (context, next) => {
      await next();
      if (typeof context.body === "string") context.body = context.body.replace(/@import url\([^)]*\);/g, "");
    });
    this.#provider.on("grant.success", ({ oidc }) => (this.grants[oidc.params.grant_type] = (this.grants[oidc.params.grant_type] ?? 0) + 1));
    this.#callback = this.#provider.callback();
  }

  #answer(request, response) {
    if (this.answers) this.#callback(request, response);
    else request.socket.destroy();
  }

  #configuration() {
    return {
      clients: [
        {
          client_id: CLIENT,
          redirect_uris: this.#redirects,
          post_logout_redirect_uris: this.#redirects,
          response_types: this.#redirects.length ? ["code"] : [],
          grant_types: this.#redirects.length ? ["authorization_code", "refresh_token"] : [],
          token_endpoint_auth_method: "none",
        },
      ],
      cookies: { keys: ["for tests only"] },
      // Claims of a scope are in the ID token, as most issuers have them.
      conformIdTokenClaims: false,
      claims: { openid: ["sub"], profile: ["name", "preferred_username"], groups: ["groups"] },
      findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, ...this.people[sub] }) }),
      extraTokenClaims: (_, { accountId }) => this.people[accountId],
      issueRefreshToken: () => this.#refreshes,
      clientBasedCORS: (_, origin) => this.#redirects.some((page) => new URL(page).origin === origin),
      ttl: { AccessToken: this.#tokenLifetime, IdToken: this.#tokenLifetime, RefreshToken: 86_400, Session: 86_400, Grant: 86_400, Interaction: 3600, AuthorizationCode: 60 },
      features: {
        resourceIndicators: {
          enabled: true,
          getResourceServerInfo: (_, resource) => {
            if (resource !== RESOURCE) throw new errors.InvalidTarget();
            return { scope: "", audience: AUDIENCE, accessTokenTTL: this.#tokenLifetime, accessTokenFormat: "jwt" };
          },
          useGrantedResource: () => true,
        },
      },
    };
  }

  /** An access token for `login`, as the issuer makes them; `lifetime` in seconds, which may be over. */
  async token(login, { lifetime = this.#tokenLifetime, audience = AUDIENCE, claims = {} } = {}) {
    const { AccessToken, Client, ResourceServer } = this.#provider;
    const token = new AccessToken({ accountId: login, client: await Client.find(CLIENT), gty: "authorization_code", scope: "" });
    token.resourceServer = new ResourceServer(RESOURCE, { scope: "", audience, accessTokenTTL: lifetime, accessTokenFormat: "jwt" });
    token.extra = { ...this.people[login], ...claims };
    token.iat = Math.floor(Date.now() / 1000) - this.#tokenLifetime;
    token.exp = Math.floor(Date.now() / 1000) + lifetime;
    return token.save();
  }
}

/** Runs `work` without the issuer's warnings. */
function quietly(work) {
  const loud = QUIET.map((name) => [name, console[name]]);
  for (const name of QUIET) console[name] = () => {};
  try {
    return work();
  } finally {
    for (const [name, function_] of loud) console[name] = function_;
  }
}
