/** Short-lived LLM API keys from the local Keybroker. Each function here uses one client, made at its first use. */

/** What a profile gives. Its key is shown by nothing that prints or copies it. */
export interface Credential {
	/** The secret, as it is now: ask again for each use rather than keep it. */
	readonly apiKey: string;
	/** Of the OpenAI-compatible API. */
	readonly baseURL: string;
	readonly profile: string;
	/** `environment`: OPENAI_API_KEY, since there is no broker. */
	readonly mode: "shared" | "dedicated" | "static" | "environment";
	/** What the key may use. */
	readonly models: readonly string[];
	/** Of a shared profile's key: one more at each rotation. 0 for other modes. */
	readonly generation: number;
	readonly lease: string;
	/** Unix milliseconds; null: never. */
	readonly expiresAtMs: number | null;
	readonly refreshAtMs: number | null;
}

export interface ClientOptions {
	/** The broker's socket; by default KEYBROKER_SOCKET, then the usual places. */
	socket?: string;
	/** Nothing takes longer. 30,000 by default. */
	timeoutMs?: number;
	/** So long after a newer key was taken the broker is told that the older one is not used any more. 30,000 by default. */
	ackAfterMs?: number;
}

/** A connection to the broker and the credentials that came over it. Connects at its first use. */
export class Client {
	constructor(options?: ClientOptions);
	/** For the SDKs' `apiKey`: a function that answers from memory as long as the key there may be used. */
	apiKey(profile?: string): () => Promise<string>;
	/** For the SDKs' `baseURL`. */
	baseURL(profile?: string): Promise<string>;
	/**
	 * For the SDKs' `fetch`: sets the key, for the base URL's origin alone; reports a 401 to the broker, and sends the
	 * request once more if there is another key by then.
	 */
	fetch(profile?: string): typeof globalThis.fetch;
	credential(profile?: string): Promise<Credential>;
	/** The credential, asked of the broker even if there is one in memory. */
	refresh(profile?: string): Promise<Credential>;
	/**
	 * Tells of each new credential, and of null when there is none any more. Once there was one, another is asked for as
	 * long as the broker does not deny it. -> ends that.
	 */
	onCredential(profile: string | undefined, listener: (credential: Credential | null) => void): () => void;
	/** Releases the leases. A process that just ends need not call it. */
	close(): Promise<void>;
}

export declare const apiKey: Client["apiKey"];
export declare const baseURL: Client["baseURL"];
export declare const fetch: Client["fetch"];
export declare const credential: Client["credential"];
export declare const refresh: Client["refresh"];
export declare const onCredential: Client["onCredential"];
/** Releases the leases. What was handed out before is of no use then; a later call of these functions begins anew. */
export declare function close(): Promise<void>;

export type ErrorCode =
	| "invalid_request"
	| "denied"
	| "unknown_profile"
	| "unknown_lease"
	| "limit_exceeded"
	| "upstream_unavailable"
	| "upstream_refused"
	| "audit_unavailable"
	| "not_leader"
	| "internal"
	/** No socket accepts: see `tried`. */
	| "unreachable"
	/** A socket accepts that somebody else could have put there. */
	| "untrusted"
	| "timeout"
	/** The connection ended, and what was asked may or may not have been done; or the client is closed. */
	| "lost"
	/** What came back is not the protocol. */
	| "garbage";

export class KeybrokerError extends Error {
	readonly code: ErrorCode;
	/** What to do about it; part of `message` too. */
	readonly advice: string;
	/** The socket that was used, or tried first; null if there was none. */
	readonly socket: string | null;
	/** When the broker says that it is worth trying again. */
	readonly retryAfterMs: number | null;
	/** Of `unreachable`: each socket, and why not. */
	readonly tried: readonly { path: string; why: string }[];
}

export interface ProvisionerOptions extends ClientOptions {
	/** "service" by default. */
	profile?: string;
	/** Whether OPENAI_API_KEY and OPENAI_BASE_URL are set in process.env, and kept to the newest key. True by default. */
	exportEnv?: boolean;
}

/** Options for `new OpenAI()`. With `fetch` such a client lives through rotations, whatever key it was made with. */
export interface ProvisionedClient {
	readonly apiKey: string;
	readonly baseURL: string;
	readonly fetch: typeof globalThis.fetch;
}

export interface Provisioner {
	getClient(): Promise<ProvisionedClient>;
	/** As `getClient`, but asks the broker even if there is a key in memory. */
	refresh(): Promise<ProvisionedClient>;
	/** Releases the lease, and puts process.env back as it was, or as another provisioner that is open has it. */
	close(): Promise<void>;
}

/** For a server that used to make its own LiteLLM key. */
export function createProvisioner(options?: ProvisionerOptions): Provisioner;
