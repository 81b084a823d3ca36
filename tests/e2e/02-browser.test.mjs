// Two people in two browser windows, through the Ingress.

import { roomWithIngress } from "../lib/cluster/room.mjs";
import { windowsTalk } from "./windows.mjs";

windowsTalk("through the Ingress", "by-ingress", roomWithIngress);
