// The lists of faults, sorted by number: those on this machine, and those in a cluster.

async function load(...modules) {
  const loaded = await Promise.all(modules.map((name) => import(`./${name}.mjs`)));
  return loaded.flatMap((module) => module.default).toSorted((a, b) => String(a.number).localeCompare(String(b.number), "en", { numeric: true }));
}

export const loopbackFaults = () => load("loopback/servers", "loopback/broker", "loopback/network", "loopback/clients", "loopback/log", "loopback/nodes");
export const clusterFaults = () => load("cluster/faults", "cluster/nodes");
