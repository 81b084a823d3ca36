// The API server as HTTP, through `kubectl proxy`: it has the credentials of every kind of KUBECONFIG, and no limit on the rate of requests.

import { until } from "../wait.mjs";
import { start } from "./kubectl.mjs";

const SERVING = /Starting to serve on (127\.0\.0\.1:\d+)/;

export class Api {
  static async open() {
    // In a process group of its own: Ctrl-C is for this program, which still has to clean up.
    const child = start(["proxy", "--port=0"], { detached: true });
    let text = "";
    let ended = false;
    child.stdout.on("data", (data) => (text += data));
    child.once("error", () => (ended = true));
    child.once("exit", () => (ended = true));
    await until("kubectl proxy serves, or has ended", () => ended || SERVING.test(text), 30);
    if (ended) throw new Error("kubectl proxy ended at once; KUBECONFIG must name a cluster that answers");
    const api = new Api();
    api.url = `http://${text.match(SERVING)[1]}`;
    api.close = () => child.kill();
    return api;
  }

  /** Sends a request, and returns the response if it is a success. An error has the status as `code`. */
  async send(method, path, body, { signal, type = "application/json" } = {}) {
    const response = await fetch(this.url + path, { method, signal, headers: { "content-type": type }, body: body && JSON.stringify(body) });
    if (response.ok) return response;
    const text = await response.text();
    throw Object.assign(new Error(`${method} ${path}: ${response.status} ${messageOf(text)}`), { code: response.status });
  }

  get = async (path) => (await this.send("GET", path)).json();
  create = async (path, object) => (await this.send("POST", path, object)).json();
  patch = async (path, change) => (await this.send("PATCH", path, change, { type: "application/merge-patch+json" })).json();
  /** Deletes an object, or all objects of a list. */
  delete = async (path) => (await this.send("DELETE", path)).json();
}

function messageOf(text) {
  try {
    return JSON.parse(text).message ?? text;
  } catch {
    return text;
  }
}
