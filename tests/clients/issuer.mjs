// An issuer for tests that are not Node's. It prints the access file of a room that takes its tokens, as one line of JSON, and then a token for
// each line that it reads: `{ "login", "lifetime"?, "audience"? }`. It stops at the end of its input.

import { createInterface } from "node:readline";

import { Issuer } from "../lib/issuer.mjs";

const ends = [];
const issuer = await Issuer.start({ after: (end) => ends.push(end) }, { people: JSON.parse(process.argv[2]) });
console.log(JSON.stringify(issuer.access()));
for await (const line of createInterface({ input: process.stdin })) {
  const { login, ...token } = JSON.parse(line);
  console.log(await issuer.token(login, token));
}
for (const end of ends) end();
