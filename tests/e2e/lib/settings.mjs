// What the tests need to know of the cluster, from the environment. The defaults suit manifests/kind.yaml.

const { env } = process;

/** Where the release goes. */
export const RELEASE = env.PAPO_E2E_RELEASE ?? "papo";
/** The release's namespace. */
export const SYSTEM = env.PAPO_E2E_SYSTEM_NAMESPACE ?? "papo-e2e-system";
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
/** Annotations of the Ingress, as JSON. */
export const INGRESS_ANNOTATIONS = JSON.parse(env.PAPO_E2E_INGRESS_ANNOTATIONS || "{}");
/** The Gateway for HTTPRoutes, NAMESPACE/NAME; tests through a gateway are skipped without one. */
export const GATEWAY = env.PAPO_E2E_GATEWAY ?? "";

/** The browser. */
export const CHROMIUM = env.PAPO_E2E_CHROMIUM ?? "/usr/bin/chromium";
/** Where screenshots go. */
export const SCREENSHOTS = env.PAPO_E2E_SCREENSHOTS ?? new URL("../screenshots/", import.meta.url).pathname;
/** Leave the release and the rooms in place afterwards, to look around. */
export const KEEP = Boolean(env.PAPO_E2E_KEEP);
