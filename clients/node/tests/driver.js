"use strict";
// Does what it is told, a JSON object a line (clients/README.md, "The driver").

const cluster = require("node:cluster");
const { createHash } = require("node:crypto");
const path = require("node:path");
const readline = require("node:readline");
const util = require("node:util");
const { spawnSync } = require("node:child_process");
const { Client, KeybrokerError } = require("keybroker");

const clients = new Map();
const logged = [];
const seen = new Set(); // keys that `show` looks for

const hash = (key) => createHash("sha256").update(key).digest("hex").slice(0, 8);

function options({ socket, timeout_ms: timeoutMs, ack_after_ms: ackAfterMs } = {}) {
	return { socket, timeoutMs, ackAfterMs };
}

function clientOf({ client = "main" }) {
	if (!clients.has(client)) clients.set(client, new Client());
	return clients.get(client);
}

async function keyOf(ask) {
	const key = await clientOf(ask).apiKey(ask.profile)();
	seen.add(key);
	return key;
}

async function credentialOf(ask) {
	const c = await clientOf(ask).credential(ask.profile);
	return {
		lease: c.lease,
		key_hash: hash(c.apiKey),
		generation: c.generation,
		mode: c.mode,
		base_url: c.baseURL,
		expires_at_ms: c.expiresAtMs,
	};
}

/** Sends by the transport and notes which key the last request had; `init` is made for each of `ask.n` calls. */
async function send(ask, url, init) {
	const real = globalThis.fetch;
	let authorization = null;
	globalThis.fetch = (input, more) => {
		authorization = new Headers(more?.headers).get("authorization");
		return real(input, more);
	};
	try {
		const one = async () => {
			const response = await clientOf(ask).fetch(ask.profile)(url, init());
			await response.text();
			return response.status;
		};
		const statuses = await Promise.all(Array.from({ length: ask.n ?? 1 }, one));
		const key = authorization?.replace("Bearer ", "");
		return { status: statuses[0], statuses: [...new Set(statuses)].sort(), key_hash: key ? hash(key) : null };
	} finally {
		globalThis.fetch = real;
	}
}

async function call(ask) {
	const url = `${await clientOf(ask).baseURL(ask.profile)}/chat/completions`;
	const text = JSON.stringify({ model: "gpt-5", messages: [{ role: "user", content: "hello" }] });
	return send(ask, url, () => ({
		method: "POST",
		headers: { "content-type": "application/json" },
		body: ask.body_stream ? new Blob([text]).stream() : text,
		duplex: "half",
	}));
}

/** A worker of a cluster, which has a client of its own. */
async function child(ask) {
	const before = await credentialOf(ask);
	cluster.setupPrimary({ exec: path.join(__dirname, "driver_child.js"), args: [ask.profile ?? "service"], silent: true });
	const worker = cluster.fork();
	const exited = new Promise((resolve) => worker.once("exit", resolve));
	const answer = await Promise.race([
		new Promise((resolve) => worker.once("message", resolve)),
		exited.then((code) => Promise.reject(new Error(`the child ended with ${code}`))),
	]);
	await exited;
	if (answer.error) throw Object.assign(new Error(answer.error.message), answer.error);
	const after = await credentialOf(ask);
	if (before.lease !== after.lease) throw new Error("the parent's lease is another one now");
	return { ...answer, parent_lease: after.lease, parent_key_hash: after.key_hash };
}

/** A crash with all of them at hand. */
function crash(ask) {
	const script = `
		const { Client } = require(${JSON.stringify(require.resolve("keybroker"))});
		const client = new Client();
		client.credential(${JSON.stringify(ask.profile ?? "service")}).then((credential) => {
			throw Object.assign(new Error("crash"), { client, credential });
		});`;
	const { stdout, stderr } = spawnSync(process.execPath, ["-e", script], { encoding: "utf8" });
	return stdout + stderr;
}

async function show(ask) {
	const client = clientOf(ask);
	const credential = await client.credential(ask.profile);
	const error = await client.credential("no-such-profile").catch((e) => e);
	const texts = [crash(ask)];
	for (const thing of [client, credential, error, client.apiKey(ask.profile), client.fetch(ask.profile)]) {
		texts.push(String(thing), `${util.format("%s %o %O %j", thing, thing, thing, thing)}`, JSON.stringify(thing) ?? "");
		texts.push(util.inspect(thing, { showHidden: true, depth: null, customInspect: false }));
		texts.push(util.inspect(thing, { depth: null, getters: true }), util.inspect({ ...thing }));
	}
	return { texts: [...texts, error.stack] };
}

const asks = {
	open: async (ask) => void clients.set(ask.client ?? "main", new Client(options(ask.options))),
	api_key: async (ask) => ({ key_hash: hash(await keyOf(ask)) }),
	base_url: async (ask) => ({ base_url: await clientOf(ask).baseURL(ask.profile) }),
	credential: credentialOf,
	many: async (ask) => {
		const settled = await Promise.allSettled(Array.from({ length: ask.n }, () => keyOf(ask)));
		const distinct = (values) => [...new Set(values.filter(Boolean))].sort();
		return {
			key_hashes: distinct(settled.map(({ value }) => value && hash(value))),
			codes: distinct(settled.map(({ reason }) => reason?.code)),
		};
	},
	call,
	call_other: async (ask) => send(ask, ask.url, () => ({})),
	child,
	show,
	logged: async () => ({ lines: logged }),
	close: async (ask) => clientOf(ask).close(),
};

function errorOf(error) {
	if (error instanceof KeybrokerError || error.code) {
		const { code, message, advice, socket, retryAfterMs } = error;
		return { code, message, advice: advice ?? "", socket: socket ?? null, retry_after_ms: retryAfterMs ?? null };
	}
	return { code: "driver", message: String(error.stack), advice: "", socket: null, retry_after_ms: null };
}

async function answer(ask) {
	const began = performance.now();
	const done = await asks[ask.ask](ask).catch((error) => ({ error: errorOf(error) }));
	return { ...done, ms: performance.now() - began };
}

async function main() {
	process.on("warning", (warning) => logged.push(`${warning.name}: ${warning.message}`));
	for await (const line of readline.createInterface({ input: process.stdin })) {
		const text = JSON.stringify(await answer(JSON.parse(line)));
		for (const key of seen) if (text.includes(key)) throw new Error("an answer shows a key");
		process.stdout.write(`${text}\n`);
	}
}

main();
