// Two people in two browser windows, through the Ingress: at a host of the room's own, and below a path.

import { roomBelow, roomWithIngress } from "../lib/cluster/room.mjs";
import { windowsTalk } from "./windows.mjs";

windowsTalk("through the Ingress", "by-ingress", roomWithIngress);
windowsTalk("through the Ingress, below a path", "by-path", roomBelow("/chat/geral"), { path: "/chat/geral/" });
