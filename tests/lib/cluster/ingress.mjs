// The ingress: how members and browsers reach rooms from outside the cluster.

import { Agent } from "node:http";
import { isIP } from "node:net";

import { Member } from "../member.mjs";
import { urlOf } from "./room.mjs";
import { ADDRESS } from "./settings.mjs";

/** Connects to the ingress whatever the host's name is. */
export const toIngress = () =>
  new Agent({
    lookup: (_host, { all }, done) => (all ? done(null, [{ address: ADDRESS, family: isIP(ADDRESS) }]) : done(null, ADDRESS, isIP(ADDRESS))),
  });

/** Joins a room under a name, and returns when the history has come. */
export const join = (room, name, options) => Member.join(urlOf(room), name, { agent: toIngress(), ...options });
