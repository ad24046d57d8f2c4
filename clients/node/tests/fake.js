"use strict";
// A broker for tests: answers by `methods` (name -> (params, connection) => result; what it throws is the error), and notes
// what it was asked.

const fs = require("node:fs");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");
const { encode } = require("@msgpack/msgpack");
const internal = require("./internal");

const { unpack } = internal("message");
const { walk, LIMITS } = internal("walk");

const SILENCE = Symbol("no answer");

/** A directory as the broker makes it, taken away after the test. */
function directory(t) {
	const dir = fs.mkdtempSync(path.join(os.tmpdir(), "kb-"));
	t.after(() => fs.rmSync(dir, { recursive: true, force: true }));
	return dir;
}

/** Listens; `serve` gets each connection. -> {socket, connections, stop()} */
async function listen(t, serve, socket = path.join(directory(t), "keybroker.sock")) {
	const connections = new Set();
	const server = net.createServer((connection) => {
		connections.add(connection);
		connection.on("close", () => connections.delete(connection));
		connection.on("error", () => {});
		serve(connection);
	});
	const stop = () => {
		for (const connection of connections) connection.destroy();
		return new Promise((resolve) => server.close(resolve));
	};
	t.after(stop);
	await new Promise((resolve) => server.listen(socket, resolve));
	return { socket, connections, stop };
}

const KEYS = ["", ...Array.from({ length: 9 }, (_, i) => `sk-fake-key-of-generation-000${i + 1}`)];

/** An answer to acquire. */
function granted(more) {
	return {
		lease: "lease-1",
		profile: "service",
		mode: "shared",
		api_key: KEYS[1],
		base_url: "http://127.0.0.1:1/v1",
		models: ["gpt-5"],
		generation: 1,
		...more,
	};
}

async function fakeBroker(t, methods = {}, socket = undefined) {
	const asked = [];
	const all = {
		acquire: () => granted(),
		watch: () => ({ term: 1 }),
		ack: (params) => params,
		report: ({ lease }) => ({ lease, state: "alive" }),
		release: ({ lease }) => ({ lease, released: true }),
		...methods,
	};

	async function answer(connection, [, id, method, [params]]) {
		asked.push({ method, params: { ...params } });
		let reply;
		try {
			reply = [1, id, null, await all[method](params, connection)];
		} catch (error) {
			if (error instanceof Error) throw error;
			reply = [1, id, error, null];
		}
		if (reply[3] !== SILENCE) connection.write(encode(reply));
	}

	const listening = await listen(
		t,
		(connection) => {
			let rest = Buffer.alloc(0);
			connection.on("data", (chunk) => {
				rest = Buffer.concat([rest, chunk]);
				for (let found; (found = walk(rest, LIMITS.request)).walk === "complete"; rest = rest.subarray(found.length))
					answer(connection, unpack(rest.subarray(0, found.length)));
			});
		},
		socket,
	);
	return {
		...listening,
		asked,
		of: (method) => asked.filter((one) => one.method === method).map(({ params }) => params),
		notify: (method, params) => listening.connections.forEach((one) => one.write(encode([2, method, [params]]))),
	};
}

/** Waits until `probe` gives something true. */
async function until(probe, what = probe) {
	for (const end = Date.now() + 5000; Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 5))) {
		const value = await probe();
		if (value) return value;
	}
	throw new Error(`waited in vain for: ${what}`);
}

/** Sets variables (undefined: takes them out) until the test ends. */
function setEnv(t, values) {
	const before = Object.fromEntries(Object.keys(values).map((name) => [name, process.env[name]]));
	const put = (all) => {
		for (const [name, value] of Object.entries(all)) {
			if (value === undefined) delete process.env[name];
			else process.env[name] = value;
		}
	};
	put(values);
	t.after(() => put(before));
}

/** A client that is closed after the test. */
function clientFor(t, options) {
	const client = new (require("keybroker").Client)({ timeoutMs: 5000, ...options });
	t.after(() => client.close());
	return client;
}

module.exports = { KEYS, SILENCE, clientFor, directory, fakeBroker, granted, listen, setEnv, until };
