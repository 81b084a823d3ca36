// What the tests need to know of the cluster, from the environment. The defaults suit the cluster that manifests/kind.sh makes.

const { env } = process;

/** The release under test. One that is there already is taken over, and put back as it was at the end. */
export const RELEASE = env.PAPO_E2E_RELEASE ?? "papo";
/** The release's namespace. */
export const SYSTEM = env.PAPO_E2E_SYSTEM_NAMESPACE ?? "papo-system";
/** The rooms' namespace. */
export const ROOMS = env.PAPO_E2E_NAMESPACE ?? "papo-e2e";
/** More arguments for `helm install`, separated by spaces. */
export const HELM_ARGS = (env.PAPO_E2E_HELM_ARGS ?? "").split(" ").filter(Boolean);

/** Rooms get hosts below this domain. */
export const DOMAIN = env.PAPO_E2E_DOMAIN ?? "papo.localhost";
/** The IP address at which the ingress controller (and the gateway) answers on port 80. */
export const ADDRESS = env.PAPO_E2E_ADDRESS ?? "127.0.0.1";
/** Class of the Ingress; the cluster's default if empty. */
export const INGRESS_CLASS = env.PAPO_E2E_INGRESS_CLASS ?? "";
/** Annotations of the Ingress, as JSON. By default those that Contour needs for WebSockets; other controllers ignore them. */
export const INGRESS_ANNOTATIONS = JSON.parse(env.PAPO_E2E_INGRESS_ANNOTATIONS || '{"projectcontour.io/websocket-routes": "/socket.io/"}');
/** The Gateway for HTTPRoutes, NAMESPACE/NAME. Tests through a gateway are skipped without one. */
export const GATEWAY = env.PAPO_E2E_GATEWAY ?? "";
/**
 * Command that installs the Gateway API and the Gateway above, in a cluster that has neither. It is run in the middle of the
 * tests, to see that the operator takes notice.
 */
export const INSTALL_GATEWAY = env.PAPO_E2E_INSTALL_GATEWAY ?? "";

/**
 * Commands that end a node without warning and start it again; the node's name is added to them. With kind: `docker kill` and
 * `docker start`. The test of a lost node is skipped without them, and in a cluster with less than two workers.
 */
export const KILL_NODE = env.PAPO_E2E_KILL_NODE ?? "";
export const START_NODE = env.PAPO_E2E_START_NODE ?? "";

/** Leave the release and the rooms in place afterwards, to look around. */
export const KEEP = Boolean(env.PAPO_E2E_KEEP);
