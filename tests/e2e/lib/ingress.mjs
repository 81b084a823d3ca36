// The way in from outside.

import { Agent } from "node:http";
import { isIP } from "node:net";

import { ADDRESS } from "./settings.mjs";

/** Connects to the ingress whatever the host's name is. */
export const toIngress = () =>
  new Agent({
    lookup: (_host, { all }, done) => (all ? done(null, [{ address: ADDRESS, family: isIP(ADDRESS) }]) : done(null, ADDRESS, isIP(ADDRESS))),
  });
