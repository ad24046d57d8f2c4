"use strict";
// The library within a process: what keeps it alive, its threads, its children, both module systems.

const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const fs = require("node:fs");
const { test } = require("node:test");
const { Worker } = require("node:worker_threads");
const { SILENCE, fakeBroker, granted, until } = require("./fake");

const KEYBROKER = JSON.stringify(require.resolve("keybroker"));

/** Runs a program. -> {code, out} */
async function run(script, { socket, args = ["-e"], ...env }) {
	const child = spawn(process.execPath, [...args, script], {
		env: { ...process.env, KEYBROKER_SOCKET: socket, ...env },
		cwd: __dirname,
		stdio: ["ignore", "pipe", "inherit"],
	});
	let out = "";
	child.stdout.on("data", (chunk) => (out += chunk));
	const timer = setTimeout(() => child.kill("SIGKILL"), 10_000);
	const code = await new Promise((resolve) => child.on("close", resolve));
	clearTimeout(timer);
	return { code, out };
}

const distinct = () => {
	let n = 0;
	return ({ lease }) => granted({ lease: lease ?? `lease-${++n}`, refresh_at_ms: Date.now() + 60_000 });
};

test("a process ends by itself: neither connection nor timer keeps it", async (t) => {
	const { socket, of } = await fakeBroker(t);
	const { code, out } = await run(`require(${KEYBROKER}).credential().then(() => console.log("done"))`, { socket });
	assert.deepEqual([code, out], [0, "done\n"]);
	assert.equal(of("acquire")[0].bind, "process");
});

test("but not while a call is awaited", async (t) => {
	const { socket } = await fakeBroker(t, {
		acquire: () => new Promise((resolve) => setTimeout(resolve, 500, granted())),
	});
	const { out } = await run(`require(${KEYBROKER}).credential().then(() => console.log("done"))`, { socket });
	assert.equal(out, "done\n");
	const silent = await fakeBroker(t, { acquire: () => SILENCE });
	const script = `new (require(${KEYBROKER}).Client)({ timeoutMs: 300 }).credential().catch((e) => console.log(e.code))`;
	assert.equal((await run(script, silent)).out, "timeout\n");
});

test("ESM and CommonJS share one client", async (t) => {
	const { socket, of } = await fakeBroker(t);
	const script = `
		import * as broker from "keybroker";
		import { Client, apiKey, baseURL, fetch, createProvisioner, KeybrokerError } from "keybroker";
		import { createRequire } from "node:module";
		const other = createRequire(import.meta.url)("keybroker");
		await Promise.all([broker.apiKey("service")(), other.apiKey("service")(), baseURL("service")]);
		console.log(Client === other.Client, Object.keys(other).every((name) => broker[name] === other[name]));
		await broker.close();`;
	const { code, out } = await run(script, { socket, args: ["--input-type=module", "-e"] });
	assert.deepEqual([code, out], [0, "true true\n"]);
	assert.deepEqual([of("acquire").length, of("release").length], [1, 1]);
});

test("a worker thread has a lease of its own, which ends with it: with its connection", async (t) => {
	const { socket, of, connections } = await fakeBroker(t, { acquire: distinct() });
	const script = `
		const { parentPort } = require("node:worker_threads");
		require(${KEYBROKER}).credential().then(({ lease }) => parentPort.postMessage(lease));`;
	const leases = await Promise.all(
		[1, 2, 3].map(
			() =>
				new Promise((resolve, reject) => {
					let lease;
					const worker = new Worker(script, { eval: true, env: { ...process.env, KEYBROKER_SOCKET: socket } });
					worker.on("message", (message) => (lease = message));
					worker.on("error", reject);
					worker.on("exit", () => resolve(lease));
				}),
		),
	);
	assert.deepEqual(leases.sort(), ["lease-1", "lease-2", "lease-3"]);
	assert.ok(of("acquire").every(({ bind }) => bind === "connection"));
	await until(() => connections.size === 0);
});

test("the workers of a cluster have connections and leases of their own", async (t) => {
	const { socket, of } = await fakeBroker(t, { acquire: distinct() });
	const script = `
		const cluster = require("node:cluster");
		const { credential } = require(${KEYBROKER});
		credential().then(async ({ lease }) => {
			if (cluster.isWorker) return process.send(lease, () => process.disconnect());
			const told = (worker, event) => new Promise((resolve) => worker.on(event, resolve));
			const work = (worker) => Promise.all([told(worker, "message"), told(worker, "exit")]);
			const theirs = (await Promise.all([work(cluster.fork()), work(cluster.fork())])).map(([theirs]) => theirs);
			console.log(new Set([lease, ...theirs]).size, (await credential()).lease === lease);
		});`;
	const file = `${socket}.cluster.js`;
	fs.writeFileSync(file, script);
	const { out } = await run(file, { socket, args: [] });
	assert.equal(out, "3 true\n");
	assert.equal(of("acquire").length, 3);
});
