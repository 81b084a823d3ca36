// Claims of a token that the page has got from the issuer itself. It shows them and takes no decision from them: the server checks tokens. Pure.

/** The claims of a JSON Web Token; none if the text is no such token. */
export function claimsOf(token) {
  try {
    const [, payload] = token.split(".");
    const bytes = Uint8Array.from(atob(payload.replaceAll("-", "+").replaceAll("_", "/")), (byte) => byte.charCodeAt(0));
    return Object(JSON.parse(new TextDecoder().decode(bytes)));
  } catch {
    return {};
  }
}

/** What a person calls their account: the first of the usual claims that the token has. */
export function accountOf(token) {
  const { preferred_username: username, email, name, sub } = claimsOf(token);
  return [username, email, name, sub].find((text) => typeof text === "string" && text !== "") ?? "";
}
