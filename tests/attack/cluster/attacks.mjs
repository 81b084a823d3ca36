// Attacks that need pods, in the cluster that KUBECONFIG names: a broker of a tenant (47), and the credentials of a chat pod (48).

import { readFileSync } from "node:fs";

import { Broker, exchangeOf, logOf } from "../../lib/cluster/broker.mjs";
import { apply, forward, get, inRooms, kubectl, list } from "../../lib/cluster/kubectl.mjs";
import { OPERATOR_LABELS } from "../../lib/cluster/release.mjs";
import { childOf, condition, create, podsReady, remove, room, status } from "../../lib/cluster/room.mjs";
import { RELEASE, ROOMS, SYSTEM } from "../../lib/cluster/settings.mjs";
import { until } from "../../lib/wait.mjs";
import { judgeMisuse, misuse } from "./credentials.mjs";

/** Rooms of the tenant, and what its broker does to them. */
const TENANTS = 15;
const MODES = { endless: 15601, huge: 15602, slow: 15603 };
const TENANT = "attack-tenant";
/** Seconds in which the operator repairs a room beside the attack, and alone times this. */
const REPAIRS_WITHIN = 10;
const SLOWER = 3;
const REPAIRS = 3;
const MEMORY = 128 * 2 ** 20;

export default [
  {
    number: "47",
    title: `${TENANTS} rooms on a tenant's broker that never ends a page, sends 400 MB, or answers slowly`,
    bound: "20 pages, 4 MiB, 10 s an answer, 30 s a room; a quarter of the operator's slots for a namespace",
    async run({ expect }) {
      const broker = await Broker.open();
      const names = Array.from({ length: TENANTS }, (_, n) => `${TENANT}-${n}`);
      try {
        await create(room("honest"));
        const alone = await repairs(broker);
        await startTenant();
        const modes = Object.keys(MODES);
        await apply(...names.map((name, n) => room(name, { broker: { secretName: `${TENANT}-${modes[n % modes.length]}` } })));
        await until("the operator has met each kind of answer", async () => (await Promise.all(names.map((name) => condition(name, "BrokerReady")))).every((one) => one?.status === "False"), 180);
        const beside = await repairs(broker);
        const memory = await operatorMemory();
        expect(beside <= Math.max(REPAIRS_WITHIN, SLOWER * alone), `the operator repaired an honest room after ${beside.toFixed(1)} s, ${alone.toFixed(1)} s without the attack`);
        expect(memory.most <= MEMORY, `an operator takes ${mib(memory.most)} MiB`);
        expect(memory.restarts === 0, `operators were restarted ${memory.restarts} times`);
        const reasons = await Promise.all(names.slice(0, modes.length).map((name) => condition(name, "BrokerReady").then(({ reason }) => reason)));
        return `statuses: ${reasons.join(", ")}; an honest room was repaired after ${alone.toFixed(1)} s alone, ${beside.toFixed(1)} s beside it; operator ${mib(memory.most)} MiB, ${memory.restarts} restarts`;
      } finally {
        await Promise.all([...names, "honest"].map((name) => remove(name, 180)));
        await inRooms("delete", "pod,service,configmap,secret", "-l", `app=${TENANT}`, "--ignore-not-found", "--grace-period=0", "--timeout=60s");
        broker.close();
      }
    },
  },
  {
    number: "48",
    title: "the broker credentials of a chat pod in wrong hands",
    bound: "connections, channels and queues of the user; what it leaves expires; no rights for other rooms",
    async run({ expect }) {
      const broker = await Broker.open();
      const tunnel = await forward(SYSTEM, `service/${RELEASE}-rabbitmq`, 5672);
      try {
        await Promise.all(["stolen", "other"].map((name) => create(room(name))));
        await podsReady("stolen", (await status("stolen")).replicas ?? 1);
        const { data } = await get("secret", childOf("stolen"));
        const [user, password] = ["username", "password"].map((key) => Buffer.from(data[key], "base64").toString());
        const other = { exchange: exchangeOf("other"), log: logOf("other", (await status("other")).epoch) };
        const counts = await misuse({ amqpUrl: `amqp://127.0.0.1:${tunnel.port}/%2f`, user, password, exchange: exchangeOf("stolen"), management: broker, other });
        return judgeMisuse(counts, expect);
      } finally {
        await Promise.all(["stolen", "other"].map((name) => remove(name)));
        tunnel.stop();
        broker.close();
      }
    },
  },
];

const mib = (bytes) => Math.round(bytes / 2 ** 20);

/** The longest of a few times until the operator has restored the exchange of the honest room, in seconds. */
async function repairs(broker) {
  let longest = 0;
  for (let n = 0; n < REPAIRS; n++) {
    await broker.deleteExchange("honest");
    const began = performance.now();
    await until("the exchange is back", () => broker.exchange("honest"), 180);
    longest = Math.max(longest, (performance.now() - began) / 1000);
  }
  return longest;
}

/** A pod with the image of the chart's broker that runs tenant.escript, and a Secret for each of its ports. */
async function startTenant() {
  const labels = { app: TENANT };
  const { spec } = (await get("statefulset", `${RELEASE}-rabbitmq`, SYSTEM)).spec.template;
  const [{ image, imagePullPolicy }] = spec.containers;
  const program = readFileSync(new URL("tenant.escript", import.meta.url), "utf8");
  const pod = {
    securityContext: { runAsNonRoot: true, runAsUser: 999, seccompProfile: { type: "RuntimeDefault" } },
    ...(spec.imagePullSecrets && { imagePullSecrets: spec.imagePullSecrets }),
    volumes: [{ name: "program", configMap: { name: TENANT } }],
    containers: [
      {
        name: "tenant",
        image,
        imagePullPolicy,
        command: ["escript", "/attack/tenant.escript", ...Object.values(MODES).map(String)],
        env: [{ name: "HOME", value: "/tmp" }],
        securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
        readinessProbe: { tcpSocket: { port: MODES.endless }, periodSeconds: 2 },
        volumeMounts: [{ name: "program", mountPath: "/attack" }],
      },
    ],
  };
  const ports = Object.entries(MODES).map(([name, port]) => ({ name, port }));
  const secrets = Object.entries(MODES).map(([mode, port]) => ({
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: `${TENANT}-${mode}`, labels },
    stringData: { username: "u", password: "p", host: `${TENANT}.${ROOMS}.svc`, managementPort: String(port) },
  }));
  await apply(
    { apiVersion: "v1", kind: "ConfigMap", metadata: { name: TENANT, labels }, data: { "tenant.escript": program } },
    { apiVersion: "v1", kind: "Pod", metadata: { name: TENANT, labels }, spec: pod },
    { apiVersion: "v1", kind: "Service", metadata: { name: TENANT, labels }, spec: { selector: labels, ports } },
    ...secrets,
  );
  await inRooms("wait", "--for=condition=Ready", `pod/${TENANT}`, "--timeout=120s");
}

/** The memory of the operator that takes most, as the kubelet measures it, and how often operators were restarted. */
async function operatorMemory() {
  const pods = await list("pods", OPERATOR_LABELS, SYSTEM);
  let most = 0;
  for (const { metadata, spec } of pods) {
    const summary = JSON.parse(await kubectl("get", "--raw", `/api/v1/nodes/${spec.nodeName}/proxy/stats/summary`));
    const found = summary.pods.find(({ podRef }) => podRef.uid === metadata.uid || podRef.name === metadata.name);
    most = Math.max(most, found?.memory?.workingSetBytes ?? 0);
  }
  const restarts = pods.flatMap((pod) => pod.status.containerStatuses ?? []).reduce((sum, { restartCount }) => sum + restartCount, 0);
  if (most === 0) throw new Error("the kubelet says nothing about the memory of operators");
  return { most, restarts };
}
