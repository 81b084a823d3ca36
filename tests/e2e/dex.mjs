// Dex (https://dexidp.io) in the cluster: an OpenID Connect issuer with one person, Ana.
//
// Browsers reach it through the ingress, by HTTP at a host below localhost, which counts as safe. The rooms' servers fetch its keys within the
// cluster, by HTTPS of a private certificate authority.

import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { apply, inRooms } from "../lib/cluster/kubectl.mjs";
import { hostOf, roomWithIngress, urlOf } from "../lib/cluster/room.mjs";
import { DEX_IMAGE, ROOMS } from "../lib/cluster/settings.mjs";

const exec = promisify(execFile);

const NAME = "dex";
const CA = "dex-ca";
/** Its name within the cluster. The port is the pod's too: a NetworkPolicy is about that one. */
const SERVICE = `${NAME}.${ROOMS}.svc`;
const PORTS = { http: 5556, https: 5554 };

export const DEX = {
  clientId: "papo",
  /** Dex as an issuer of a room. The audience of its tokens is the client. */
  issuer: { issuer: urlOf(NAME), audiences: ["papo"], jwksUri: `https://${SERVICE}:${PORTS.https}/keys`, caSecretName: CA },
};

export const ANA = {
  email: "ana@example.com",
  password: "password",
  name: "Ana Souza",
  groups: ["staff"],
  id: "ana-1",
  /** The claim `sub` of her tokens: Dex's protocol buffer of her id and of the connector `local`, in base64url. */
  get subject() {
    const field = (number, text) => [(number << 3) | 2, text.length, ...Buffer.from(text)];
    return Buffer.from([...field(1, this.id), ...field(2, "local")]).toString("base64url");
  },
};
/** Of the word `password`, by bcrypt. */
const HASH = "$2a$10$2b2cU8CPhOTaGrs1HRQuAueS7JTT5ZHsHSzYiFPm1leZck7Mc8T4W";

/** Installs Dex, for a page at this URL, and waits until it serves. */
export async function startDex(page) {
  const { ca, certificate, key } = await certificates();
  const config = {
    issuer: urlOf(NAME),
    storage: { type: "memory" },
    web: { http: `0.0.0.0:${PORTS.http}`, https: `0.0.0.0:${PORTS.https}`, tlsCert: "/etc/dex/tls.crt", tlsKey: "/etc/dex/tls.key", allowedOrigins: [new URL(page).origin] },
    oauth2: { skipApprovalScreen: true, pkce: { enforce: true, codeChallengeMethodsSupported: ["S256"] } },
    staticClients: [{ id: DEX.clientId, name: "Papo", public: true, redirectURIs: [page] }],
    enablePasswordDB: true,
    staticPasswords: [{ email: ANA.email, hash: HASH, username: "ana", name: ANA.name, userID: ANA.id, groups: ANA.groups }],
  };
  const labels = { app: NAME };
  const { spec } = roomWithIngress(NAME);
  await apply(
    secret(CA, { "ca.crt": ca }),
    secret(NAME, { "config.yaml": JSON.stringify(config), "tls.crt": certificate, "tls.key": key }),
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: NAME },
      spec: { selector: { matchLabels: labels }, template: { metadata: { labels }, spec: pod() } },
    },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: NAME },
      spec: { selector: labels, ports: Object.entries(PORTS).map(([name, port]) => ({ name, port })) },
    },
    {
      apiVersion: "networking.k8s.io/v1",
      kind: "Ingress",
      metadata: { name: NAME },
      spec: {
        ingressClassName: spec.ingress.className,
        rules: [{ host: hostOf(NAME), http: { paths: [{ path: "/", pathType: "Prefix", backend: { service: { name: NAME, port: { name: "http" } } } }] } }],
      },
    },
  );
  await inRooms("rollout", "status", `deployment/${NAME}`, "--timeout=120s");
}

export const stopDex = () => inRooms("delete", "ingress,service,deployment,secret", NAME, CA, "--ignore-not-found", "--wait=false");

const secret = (name, data) => ({ apiVersion: "v1", kind: "Secret", metadata: { name }, stringData: data });

/** A pod that Pod Security `restricted` accepts. */
const pod = () => ({
  automountServiceAccountToken: false,
  securityContext: { runAsNonRoot: true, runAsUser: 65532, fsGroup: 65532, seccompProfile: { type: "RuntimeDefault" } },
  containers: [
    {
      name: NAME,
      image: DEX_IMAGE,
      imagePullPolicy: "IfNotPresent",
      args: ["serve", "/etc/dex/config.yaml"],
      securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"] } },
      ports: Object.entries(PORTS).map(([name, containerPort]) => ({ name, containerPort })),
      readinessProbe: { httpGet: { path: "/.well-known/openid-configuration", port: "http" }, periodSeconds: 1 },
      volumeMounts: [{ name: "config", mountPath: "/etc/dex" }],
    },
  ],
  volumes: [{ name: "config", secret: { secretName: NAME } }],
});

/** A certificate of Dex's Service, with its key, and the authority that nobody else knows, for a day. */
async function certificates() {
  const folder = await mkdtemp(join(tmpdir(), "papo-dex-"));
  const openssl = (...args) => exec("openssl", args, { cwd: folder });
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const read = (name) => readFile(join(folder, name), "utf8");
  try {
    await openssl("req", "-x509", ...newKey, "-days", "1", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=Papo e2e");
    await openssl("req", ...newKey, "-keyout", "tls.key", "-out", "tls.csr", "-subj", "/CN=dex");
    await writeFile(join(folder, "names"), `subjectAltName=DNS:${SERVICE}`);
    await openssl("x509", "-req", "-in", "tls.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", "1", "-out", "tls.crt", "-extfile", "names");
    return { ca: await read("ca.crt"), certificate: await read("tls.crt"), key: await read("tls.key") };
  } finally {
    await rm(folder, { recursive: true });
  }
}
