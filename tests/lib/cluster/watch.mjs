// A list of objects that a watch keeps up to date. A thousand rooms are one connection, not a thousand questions.

import { createInterface } from "node:readline";
import { Readable } from "node:stream";

import { lasting } from "../wait.mjs";

/** Seconds until a watch that could not be started is tried again. */
const RETRY = 1;
const GONE = 410;

export class Watch {
  #api;
  #path;
  #selector;
  #seen;
  #stop = new AbortController();
  /** Versions of the objects, by name. */
  #known = new Map();
  #waiting = new Set();

  /** Lists and watches the objects with these labels. `seen(type, object)` gets ADDED, MODIFIED and DELETED. */
  static async start(api, path, selector, seen) {
    const watch = new Watch();
    watch.#api = api;
    watch.#path = path;
    watch.#selector = `labelSelector=${encodeURIComponent(selector)}`;
    watch.#seen = seen;
    const version = await watch.#list();
    watch.ended = watch.#follow(version);
    return watch;
  }

  stop() {
    this.#stop.abort();
  }

  /** Waits until `condition` holds, which is asked after every change; false if it does not within `seconds`. */
  until(condition, seconds) {
    if (condition()) return Promise.resolve(true);
    return new Promise((resolve) => {
      const finish = (holds) => {
        clearTimeout(limit);
        this.#waiting.delete(ask);
        resolve(holds);
      };
      const ask = () => condition() && finish(true);
      const limit = setTimeout(() => finish(false), seconds * 1000);
      this.#waiting.add(ask);
    });
  }

  #take(type, object) {
    const { namespace, name } = object.metadata;
    if (type === "DELETED") this.#known.delete(`${namespace}/${name}`);
    else this.#known.set(`${namespace}/${name}`, object);
    this.#seen(type, object);
    for (const ask of this.#waiting) ask();
  }

  async #list() {
    const { items, metadata } = await this.#api.get(`${this.#path}?${this.#selector}`);
    const gone = new Map(this.#known);
    for (const object of items) {
      gone.delete(`${object.metadata.namespace}/${object.metadata.name}`);
      this.#take("ADDED", object);
    }
    for (const object of gone.values()) this.#take("DELETED", object);
    return metadata.resourceVersion;
  }

  async #follow(version) {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        const response = await this.#api.send("GET", `${this.#path}?watch=true&allowWatchBookmarks=true&resourceVersion=${version}&${this.#selector}`, undefined, { signal });
        for await (const line of createInterface({ input: Readable.fromWeb(response.body) })) {
          const { type, object } = JSON.parse(line);
          if (type === "ERROR") throw Object.assign(new Error(object.message), { code: object.code });
          version = object.metadata.resourceVersion;
          if (type !== "BOOKMARK") this.#take(type, object);
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error.code === GONE) version = await this.#list().catch(() => version);
        else await lasting(RETRY);
      }
    }
  }
}
