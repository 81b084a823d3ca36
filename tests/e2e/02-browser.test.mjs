// Two people in two browser windows, through the Ingress.

import { roomWithIngress } from "./lib/room.mjs";
import { windowsTalk } from "./lib/windows.mjs";

windowsTalk("through the Ingress", "by-ingress", roomWithIngress);
