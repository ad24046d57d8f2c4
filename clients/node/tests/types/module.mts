import * as broker from "keybroker";
import { Client, KeybrokerError, createProvisioner, type Credential, type ErrorCode } from "keybroker";
import OpenAI from "openai";

export const openai = new OpenAI({
	apiKey: broker.apiKey("service"),
	baseURL: await broker.baseURL("service"),
	fetch: broker.fetch("service"),
});

const client = new Client({ socket: "/run/keybroker/keybroker.sock", timeoutMs: 1000, ackAfterMs: 1000 });
const credential: Credential = await client.refresh();
export const until: number | null = credential.expiresAtMs;
export const stop: () => void = client.onCredential("service", (one) => one?.generation);
// @ts-expect-error the key of a credential is what it is
credential.apiKey = "sk-other";
// @ts-expect-error no such option
new Client({ sokcet: "/run/keybroker/keybroker.sock" });

const provisioner = createProvisioner({ profile: "service", exportEnv: false, timeoutMs: 1000 });
export const another = new OpenAI(await provisioner.getClient());
await provisioner.refresh();
await provisioner.close();

export function codeOf(error: unknown): ErrorCode | undefined {
	return error instanceof KeybrokerError ? error.code : undefined;
}
