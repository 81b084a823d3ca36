// Random identifiers. `crypto.randomUUID` exists on secure origins only, and a chat on a LAN uses plain HTTP.

/** 128 random bits in hexadecimal. */
export function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
