// Settings of the tests in a cluster, from the environment. The defaults fit the cluster that manifests/kind.sh creates.

const { env } = process;

/** Name of the release under test. The tests take over an existing release of this name, and restore it at the end. */
export const RELEASE = env.PAPO_E2E_RELEASE ?? "papo";
/** The release's namespace. */
export const SYSTEM = env.PAPO_E2E_SYSTEM_NAMESPACE ?? "papo-system";
/** The rooms' namespace. */
export const ROOMS = env.PAPO_E2E_NAMESPACE ?? "papo-e2e";
/** More arguments for `helm install`, separated by spaces. */
export const HELM_ARGS = (env.PAPO_E2E_HELM_ARGS ?? "").split(" ").filter(Boolean);

/** The domain of the rooms' hosts. */
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
 * Command that installs the Gateway API and the Gateway above, in a cluster that has neither. A test runs it to check that the
 * running operator starts to create HTTPRoutes.
 */
export const INSTALL_GATEWAY = env.PAPO_E2E_INSTALL_GATEWAY ?? "";

/**
 * Image of Dex (https://dexidp.io), which the nodes have or can pull. Without one the test of signing in is skipped. `.ci/dex/image NAME` builds
 * it for kind.
 */
export const DEX_IMAGE = env.PAPO_E2E_DEX_IMAGE ?? "";

/**
 * Commands that kill a node and start it again; the test adds the node's name. With kind: `docker kill` and `docker start`. Without
 * them, or in a cluster with less than two workers, the test of a lost node is skipped.
 */
export const KILL_NODE = env.PAPO_E2E_KILL_NODE ?? "";
export const START_NODE = env.PAPO_E2E_START_NODE ?? "";

/** Whether the release and the rooms stay after the tests, to be inspected. */
export const KEEP = Boolean(env.PAPO_E2E_KEEP);
