// Memory and processor time of the release's pods, as the kubelets report them (/stats/summary). Every cluster has that.

import { setTimeout as sleep } from "node:timers/promises";

import { OPERATOR_LABELS } from "../../lib/cluster/release.mjs";
import { livePods } from "../../lib/cluster/kubectl.mjs";
import { RELEASE, SYSTEM } from "../../lib/cluster/settings.mjs";
import { until } from "../../lib/wait.mjs";

const LABELS = { operator: OPERATOR_LABELS, broker: `app.kubernetes.io/instance=${RELEASE},app.kubernetes.io/component=rabbitmq` };
/** Milliseconds between two samples of a peak. Kubelets measure every 10 s or so. */
const SAMPLE = 5_000;

/** Of operator and broker, which may have several pods: { largest, memory: bytes; nanoseconds, at: processor time by pod, and when it was measured }. */
export async function usage(api) {
  const entries = await Promise.all(Object.entries(LABELS).map(async ([part, labels]) => [part, await until(`the kubelet reports the ${part}'s pods`, () => usageOf(api, labels), 90)]));
  return Object.fromEntries(entries);
}

async function usageOf(api, labels) {
  const pods = await livePods(labels, SYSTEM);
  const nodes = [...new Set(pods.map(({ spec }) => spec.nodeName))];
  const reported = (await Promise.all(nodes.map((node) => api.get(`/api/v1/nodes/${node}/proxy/stats/summary`)))).flatMap((summary) => summary.pods);
  const measured = pods.map(({ metadata }) => {
    const { containers } = reported.find(({ podRef }) => podRef.uid === metadata.uid);
    const [{ cpu, memory }] = containers;
    return { uid: metadata.uid, memory: memory.rssBytes, nanoseconds: cpu.usageCoreNanoSeconds, at: Date.parse(cpu.time) };
  });
  const isWhole = measured.length > 0 && measured.every(({ memory, nanoseconds }) => memory > 0 && nanoseconds > 0);
  return isWhole && { largest: Math.max(...measured.map(({ memory }) => memory)), memory: measured.reduce((sum, pod) => sum + pod.memory, 0), pods: measured };
}

/** The share of one core that each part took between two measurements. */
export function processor(before, after) {
  const shares = Object.keys(LABELS).map((part) => {
    const share = after[part].pods.reduce((sum, { uid, nanoseconds, at }) => {
      const earlier = before[part].pods.find((pod) => pod.uid === uid);
      return earlier && at > earlier.at ? sum + (nanoseconds - earlier.nanoseconds) / 1e6 / (at - earlier.at) : NaN;
    }, 0);
    return [part, share];
  });
  return Object.fromEntries(shares);
}

/** Samples the memory, one sample after the other, until `stop` is called, which returns the most that one pod of each part had. */
export function sampled(api) {
  const peak = { operator: 0, broker: 0 };
  const sample = async () => {
    const now = await usage(api).catch(() => null);
    for (const part of Object.keys(peak)) peak[part] = Math.max(peak[part], now?.[part].largest ?? 0);
  };
  const ended = new AbortController();
  const sampling = (async () => {
    while (!ended.signal.aborted) {
      await sample();
      await sleep(SAMPLE, null, { signal: ended.signal }).catch(() => {});
    }
  })();
  return {
    async stop() {
      ended.abort();
      await sampling;
      await sample();
      return peak;
    },
  };
}
