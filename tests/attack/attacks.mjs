// The lists of attacks: those on this machine, in the order of their numbers, and those in a cluster.

async function load(...modules) {
  const loaded = await Promise.all(modules.map((name) => import(`./${name}.mjs`)));
  return loaded.flatMap((module) => module.default);
}

export const loopbackAttacks = () => load("loopback/flood", "loopback/past", "loopback/arrivals", "loopback/sockets", "loopback/descriptors", "loopback/names", "loopback/all");
export const clusterAttacks = () => load("cluster/attacks");
