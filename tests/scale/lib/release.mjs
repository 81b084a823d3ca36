// The release that is measured: one that exists, as it is, or the chart of the tree with its defaults.

import { cpus } from "node:os";

import { get, helm, kubectl } from "../../lib/cluster/kubectl.mjs";
import { CHART, OPERATOR } from "../../lib/cluster/release.mjs";
import { HELM_ARGS, RELEASE, SYSTEM } from "../../lib/cluster/settings.mjs";

/** The cluster in words, and `end`, which uninstalls a release that was installed here. */
export async function releaseForTest() {
  const exists = Boolean(await get("deployment", OPERATOR, SYSTEM));
  if (!exists) await helm("install", RELEASE, CHART, "-n", SYSTEM, "--create-namespace", "--take-ownership", "--wait", "--timeout", "5m", ...HELM_ARGS);
  const { serverVersion } = JSON.parse(await kubectl("version", "-o", "json"));
  const nodes = (await kubectl("get", "nodes", "-o", "name")).trim().split("\n").length;
  const cluster = `Kubernetes ${serverVersion.gitVersion}, ${nodes} node${nodes > 1 ? "s" : ""}; measured from ${cpus().length} x ${cpus()[0].model}`;
  const end = async (keep) => {
    if (exists || keep) return;
    await helm("uninstall", RELEASE, "-n", SYSTEM, "--wait");
    await kubectl("delete", "namespace", SYSTEM, "--timeout=120s");
  };
  return { cluster, end };
}
