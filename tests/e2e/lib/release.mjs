// The release under test: the chart, installed the way a user does, in namespaces that enforce `restricted`.

import { helm, kubectl, livePods } from "./kubectl.mjs";
import { HELM_ARGS, RELEASE, ROOMS, SYSTEM } from "./settings.mjs";

/** The operator's Deployment, and what its pods bear. */
export const OPERATOR = `${RELEASE}-operator`;
export const OPERATOR_LABELS = `app.kubernetes.io/instance=${RELEASE},app.kubernetes.io/component=operator`;

/** The operators that are not on their way out. */
export const operators = () => livePods(OPERATOR_LABELS, SYSTEM);

/** The chart as it is in the tree. */
export const CHART = new URL("../../../charts/papo", import.meta.url).pathname;
// RabbitMQ then keeps a log of what asks it to change something: how a test knows that nobody does.
const ACCESS_LOG = "rabbitmq.extraConfig=management.http_log_dir = /var/log/rabbitmq";
/** Seconds for which the broker of a deleted room is tried. */
export const BROKER_PATIENCE = 20;

// The definition outlives a release, and may be there from one of another name.
/** Installs the chart, or upgrades the release to it. */
export const install = (...more) => installFrom(CHART, ...more);

/** The same from another chart. */
export async function installFrom(chart, ...more) {
  for (const namespace of [SYSTEM, ROOMS]) await restrictedNamespace(namespace);
  await helm("upgrade", "--install", RELEASE, chart, "-n", SYSTEM, "--take-ownership", "--wait", "--timeout", "3m", "--set", ACCESS_LOG, "--set", `operator.brokerPatience=${BROKER_PATIENCE}`, ...HELM_ARGS, ...more);
}

/** Removes rooms, release and namespaces; the definition of ChatRoom stays, as it does for users. */
export async function uninstall() {
  await kubectl("-n", ROOMS, "delete", "chatrooms", "--all", "--timeout=120s");
  // The namespaces last: with `watchNamespaces` the release has objects in that of the rooms.
  await helm("uninstall", RELEASE, "-n", SYSTEM, "--wait", "--ignore-not-found");
  await kubectl("delete", "namespace", ROOMS, SYSTEM, "--timeout=120s");
}

/** A namespace with Pod Security `restricted` enforced. */
export async function restrictedNamespace(name) {
  await kubectl("create", "namespace", name).catch((error) => {
    if (!error.message.includes("AlreadyExists")) throw error;
  });
  await kubectl("label", "namespace", name, "--overwrite", "pod-security.kubernetes.io/enforce=restricted");
}
