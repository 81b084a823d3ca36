// The ingress: how members and browsers reach rooms from outside the cluster.

import { Agent } from "node:http";
import { isIP } from "node:net";

import { Member } from "../member.mjs";
import { urlOf } from "./room.mjs";
import { ADDRESS } from "./settings.mjs";

/** An agent that connects to the ingress for every host name. */
export const toIngress = () =>
  new Agent({
    lookup: (_host, { all }, done) => (all ? done(null, [{ address: ADDRESS, family: isIP(ADDRESS) }]) : done(null, ADDRESS, isIP(ADDRESS))),
  });

/** Joins a room under a name, and waits for the first history. */
export const join = (room, name, options) => Member.join(urlOf(room), name, { agent: toIngress(), ...options });
