// The release under test: the chart, installed as a user does, in namespaces that enforce `restricted`.
//
// Only one release may manage a namespace. So `begin` takes over an existing release of the same name with its values, and `end`
// restores it. An existing release of another name is an error.

import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";

import { get, helm, kubectl, list, livePods } from "./kubectl.mjs";
import { HELM_ARGS, RELEASE, ROOMS, SYSTEM } from "./settings.mjs";
import { until } from "../wait.mjs";

/** The operator's Deployment, and the labels of its pods. */
export const OPERATOR = `${RELEASE}-operator`;
export const OPERATOR_LABELS = `app.kubernetes.io/instance=${RELEASE},app.kubernetes.io/component=operator`;

/** Pods of operators that are not being deleted. */
export const operators = () => livePods(OPERATOR_LABELS, SYSTEM);

/** The chart of the tree. */
export const CHART = new URL("../../../charts/papo", import.meta.url).pathname;
// RabbitMQ then logs every request to its management API, so that a test can count writes.
const ACCESS_LOG = "rabbitmq.extraConfig=management.http_log_dir = /var/log/rabbitmq";
/** Seconds for which the operator tries to clean up the broker of a deleted room. */
export const CLEANUP_TIMEOUT = 20;

const ENFORCE = "pod-security.kubernetes.io/enforce";
/** The variable with the release that `begin` found, for the test files, which run in other processes: {values: FILE, enforce: LABEL}. */
const FOUND = "PAPO_E2E_FOUND";
const found = () => JSON.parse(process.env[FOUND] ?? "null");

/** Installs the chart, or takes over an existing release. Call it once, before all tests. */
export async function begin() {
  const others = (await operatorsAnywhere()).filter((id) => id !== `${SYSTEM}/${RELEASE}`);
  if (others.length > 0) throw new Error(`the release ${others[0]} already manages this cluster: name it with PAPO_E2E_SYSTEM_NAMESPACE and PAPO_E2E_RELEASE, or uninstall it`);
  const values = await helm("get", "values", RELEASE, "-n", SYSTEM, "-o", "json").catch((error) => {
    if (!error.message.includes("not found")) throw error;
  });
  if (values) {
    const file = `${await mkdtemp(`${tmpdir()}/papo-e2e-`)}/values.json`;
    await writeFile(file, values.trim() === "null" ? "{}" : values);
    process.env[FOUND] = JSON.stringify({ values: file, enforce: (await get("namespace", SYSTEM)).metadata.labels?.[ENFORCE] });
    console.log(`taking over the release ${RELEASE} in ${SYSTEM}`);
  }
  await install();
}

/** Deletes everything that the tests created, and restores the release that `begin` found. The CustomResourceDefinition stays. */
export async function end() {
  await kubectl("-n", ROOMS, "delete", "chatrooms", "--all", "--timeout=120s");
  const before = found();
  if (before) {
    await helm("upgrade", RELEASE, CHART, "-n", SYSTEM, "--wait", "--timeout", "5m", "--reset-values", "-f", before.values);
    if (!before.enforce) await kubectl("label", "namespace", SYSTEM, `${ENFORCE}-`);
  } else {
    // The namespaces are deleted last, because with `watchNamespaces` the release has objects in the rooms' namespace.
    await helm("uninstall", RELEASE, "-n", SYSTEM, "--wait", "--ignore-not-found");
  }
  await kubectl("delete", "namespace", ROOMS, ...(before ? [] : [SYSTEM]), "--timeout=120s");
}

// `--take-ownership`: the CustomResourceDefinition outlives a release, and may belong to one of another name.
// The tests read admin ports through the API server, whose address is that of a node. Some network plugins let only a pod's own node pass.
const ADMIN_FROM_ANYWHERE = 'networkPolicy.metricsFrom=[{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]';
/** Installs the chart, or upgrades the release to it. Rooms may have the priority class `none`, which does not exist. */
export const install = (...more) => installFrom(CHART, "--set", "operator.allowedPriorityClasses={none}", "--set-json", ADMIN_FROM_ANYWHERE, ...more);

/** Installs another chart, or upgrades the release to it. */
export async function installFrom(chart, ...more) {
  for (const namespace of [SYSTEM, ROOMS]) await restrictedNamespace(namespace);
  const before = found();
  const values = [...(before ? ["--reset-values", "-f", before.values] : []), "--set", ACCESS_LOG, "--set", `operator.cleanupTimeout=${CLEANUP_TIMEOUT}`];
  await helm("upgrade", "--install", RELEASE, chart, "-n", SYSTEM, "--take-ownership", "--wait", "--timeout", "5m", ...values, ...HELM_ARGS, ...more);
}

/** Runs `work` while no operator runs, then restores the number of operators. */
export async function withoutOperator(work) {
  const { replicas } = (await get("deployment", OPERATOR, SYSTEM)).spec;
  await scaleOperator(0);
  await until("no operator runs", async () => (await list("pods", OPERATOR_LABELS, SYSTEM)).length === 0);
  try {
    await work();
  } finally {
    await scaleOperator(replicas);
  }
}

/** Sets the number of operators. */
export const scaleOperator = (replicas) => kubectl("-n", SYSTEM, "scale", `deployment/${OPERATOR}`, `--replicas=${replicas}`);

/** A namespace with Pod Security `restricted` enforced. */
export async function restrictedNamespace(name) {
  await kubectl("create", "namespace", name).catch((error) => {
    if (!error.message.includes("AlreadyExists")) throw error;
  });
  await kubectl("label", "namespace", name, "--overwrite", `${ENFORCE}=restricted`);
}

/** Every operator in the cluster, as NAMESPACE/RELEASE. */
async function operatorsAnywhere() {
  const { items } = JSON.parse(await kubectl("get", "deployments", "-A", "-l", "app.kubernetes.io/name=papo,app.kubernetes.io/component=operator", "-o", "json"));
  return items.map(({ metadata: { namespace, labels } }) => `${namespace}/${labels["app.kubernetes.io/instance"]}`);
}
