"use strict";
// A credential's life, with a broker that does as it is told.

const assert = require("node:assert/strict");
const { test } = require("node:test");
const { KEYS, SILENCE, clientFor, fakeBroker, granted, until } = require("./fake");

const fail = (code, more) => {
	throw { code, message: `because of ${code}`, ...more };
};

/** Its key has the generation that `state` has. */
async function rotating(t, more) {
	const state = { generation: 1 };
	const acquire = () => granted({ generation: state.generation, api_key: KEYS[state.generation] });
	const broker = await fakeBroker(t, { acquire, ...more });
	state.rotate = () => {
		state.generation++;
		broker.notify("rotated", { lease: "lease-1", profile: "service", generation: state.generation });
	};
	return Object.assign(broker, { state });
}

test("many callers make one request; then it comes from memory", async (t) => {
	const { socket, of, connections } = await fakeBroker(t);
	const client = clientFor(t, { socket });
	assert.equal(connections.size, 0);
	const keys = await Promise.all(Array.from({ length: 100 }, () => client.apiKey()()));
	assert.deepEqual(new Set(keys), new Set([KEYS[1]]));
	await client.baseURL();
	assert.equal(of("acquire").length, 1);
	assert.equal(of("acquire")[0].profile, "service");
	assert.ok(of("acquire")[0].timeout_ms < 5000);
	assert.equal(connections.size, 1);
	assert.equal(client.apiKey()(), client.apiKey()(), "one promise for all calls");
});

test("a rotation brings the new key, which is acknowledged later", async (t) => {
	const { socket, state, of, asked } = await rotating(t);
	const client = clientFor(t, { socket, ackAfterMs: 300 });
	const apiKey = client.apiKey();
	await apiKey();
	await until(() => of("watch").length);
	const told = [];
	client.onCredential(undefined, (credential) => told.push(credential?.generation));
	state.rotate();
	await until(async () => (await apiKey()) === KEYS[2], "the new key");
	assert.deepEqual(of("acquire")[1].lease, "lease-1");
	const began = performance.now();
	await until(() => of("ack").length);
	assert.ok(performance.now() - began > 250);
	assert.deepEqual(of("ack"), [{ lease: "lease-1", generation: 2 }]);
	assert.deepEqual(told, [2]);
	assert.equal(asked.filter(({ method }) => method === "watch").length, 1);
});

test("a rotation while the answer to acquire is under way", async (t) => {
	let n = 0;
	const broker = await fakeBroker(t, {
		acquire: async () => {
			if (n++ === 0) return granted();
			if (n > 2) return granted({ generation: 3, api_key: KEYS[3] });
			// what it answers is old by the time it leaves
			broker.notify("rotated", { lease: "lease-1", profile: "service", generation: 3 });
			await new Promise((resolve) => setTimeout(resolve, 50));
			return granted({ generation: 2, api_key: KEYS[2] });
		},
	});
	const client = clientFor(t, broker);
	await client.credential();
	await client.refresh();
	await until(async () => (await client.credential()).generation === 3, "the newest");
	assert.equal(n, 3);
});

test("notifications of other leases, and unknown ones, change nothing", async (t) => {
	const { socket, notify, of } = await fakeBroker(t);
	const client = clientFor(t, { socket });
	await client.credential();
	await until(() => of("watch").length);
	notify("rotated", { lease: "another", profile: "service", generation: 9 });
	notify("revoked", { lease: "another" });
	notify("revoked", {});
	notify("audit", { sequence: 1 });
	notify("expiring", { lease: "lease-1" });
	await client.credential("other"); // its answer comes behind them
	await client.credential();
	assert.deepEqual(of("acquire").map(({ profile }) => profile), ["service", "other"]);
});

test("at refresh_at_ms the lease is read again, and a failure does not take the key", async (t) => {
	let n = 0;
	const { socket } = await fakeBroker(t, {
		acquire: () => {
			if (++n === 2) fail("upstream_unavailable", { retry_after_ms: 30 });
			return granted(n > 2 ? { generation: 2, api_key: KEYS[2] } : { refresh_at_ms: Date.now() + 1 });
		},
	});
	const client = clientFor(t, { socket });
	assert.equal(await client.apiKey()(), KEYS[1]);
	await until(async () => (await client.apiKey()()) === KEYS[2], "the new key");
	assert.equal(n, 3);
});

test("an expired key is not served: who asks waits for the next", async (t) => {
	let n = 0;
	const { socket, of } = await fakeBroker(t, {
		acquire: () => granted(n++ ? { api_key: KEYS[2] } : { expires_at_ms: Date.now() + 50 }),
	});
	const client = clientFor(t, { socket });
	await client.credential();
	await new Promise((resolve) => setTimeout(resolve, 60));
	assert.equal(await client.apiKey()(), KEYS[2]);
	assert.equal(of("acquire")[1].lease, "lease-1");
});

test("a revoked key is forgotten; who asks next acquires anew", async (t) => {
	let n = 0;
	const { socket, notify, of } = await fakeBroker(t, { acquire: () => granted({ lease: `lease-${++n}`, api_key: KEYS[n] }) });
	const client = clientFor(t, { socket });
	const told = [];
	client.onCredential("service", (credential) => told.push(credential?.lease ?? null));
	await client.credential();
	notify("revoked", { lease: "lease-1" });
	await until(() => told.includes(null));
	assert.equal(of("acquire").length, 1);
	assert.equal(await client.apiKey()(), KEYS[2]);
	assert.equal(of("acquire")[1].profile, "service");
	assert.deepEqual(told, ["lease-1", null, "lease-2"]);
});

test("without a key it is asked for by whoever asks, and not behind them", async (t) => {
	let n = 0;
	const { socket, notify, of } = await fakeBroker(t, { acquire: () => (++n === 2 ? granted() : fail("internal")) });
	const client = clientFor(t, { socket });
	const quiet = async (calls) => {
		await new Promise((resolve) => setTimeout(resolve, 150));
		assert.equal(of("acquire").length, calls);
	};
	const unlisten = client.onCredential("service", () => {});
	await assert.rejects(client.credential(), { code: "internal" });
	await quiet(1); // there was none yet
	await client.credential();
	unlisten();
	await until(() => of("watch").length);
	notify("revoked", { lease: "lease-1" });
	await until(() => client.credential().then(() => false, ({ code }) => code === "internal"));
	await quiet(3); // nobody listens for it
});

test("unknown_lease: acquired anew in the same call", async (t) => {
	const { socket, of } = await fakeBroker(t, {
		acquire: ({ lease }) => (lease ? fail("unknown_lease") : granted({ lease: `lease-${of("acquire").length}` })),
	});
	const client = clientFor(t, { socket });
	await client.credential();
	assert.equal((await client.refresh()).lease, "lease-3");
});

for (const code of ["denied", "unknown_profile"])
	test(`${code} ends a credential in memory too`, async (t) => {
		let good = true;
		const { socket, of } = await fakeBroker(t, { acquire: () => (good ? granted() : fail(code)) });
		const client = clientFor(t, { socket });
		await client.credential();
		good = false;
		await assert.rejects(client.refresh(), { code });
		await assert.rejects(client.apiKey()(), { code });
		assert.equal(of("acquire").length, 3);
		assert.ok(!("lease" in of("acquire")[2]));
	});

test("an error has the broker's code and words, what to do, and the socket", async (t) => {
	const { socket } = await fakeBroker(t, { acquire: () => fail("limit_exceeded", { retry_after_ms: 1500 }) });
	const error = await clientFor(t, { socket })
		.credential()
		.catch((e) => e);
	assert.equal(error.code, "limit_exceeded");
	assert.equal(error.retryAfterMs, 1500);
	assert.equal(error.socket, socket);
	for (const part of ["because of limit_exceeded", error.advice, socket]) assert.ok(error.message.includes(part));
	assert.match(error.stack, /^KeybrokerError: limit_exceeded/);
});

test("the broker is away: the key is served, the lease taken up again, and watched", async (t) => {
	const first = await rotating(t);
	const client = clientFor(t, { socket: first.socket, ackAfterMs: 10 });
	await client.credential();
	await until(() => first.of("watch").length);
	await first.stop();
	assert.equal(await client.apiKey()(), KEYS[1]);
	await new Promise((resolve) => setTimeout(resolve, 100));
	assert.equal(await client.apiKey()(), KEYS[1]);
	const acquire = () => granted({ generation: 2, api_key: KEYS[2] });
	const second = await fakeBroker(t, { acquire }, first.socket);
	await until(() => second.of("watch").length);
	assert.deepEqual(second.of("acquire").map(({ lease }) => lease), ["lease-1"]);
	assert.equal(await client.apiKey()(), KEYS[2]);
	await until(() => second.of("ack").length);
});

test("what had no answer is sent once more, with the same request_id", async (t) => {
	let n = 0;
	const { socket, of } = await fakeBroker(t, {
		acquire: (_, connection) => {
			if (++n > 3) return granted();
			if (n === 3) fail("not_leader");
			connection.destroy();
			return SILENCE;
		},
	});
	await clientFor(t, { socket }).credential();
	assert.equal(new Set(of("acquire").map(({ request_id: id }) => id)).size, 1);
	assert.match(of("acquire")[0].request_id, /^[!-~]{1,64}$/);
	assert.equal(n, 4);
});

test("leader_changed: connected again at once", async (t) => {
	const { socket, notify, of } = await fakeBroker(t);
	await clientFor(t, { socket }).credential();
	await until(() => of("watch").length);
	notify("leader_changed", { instance: "b", term: 2 });
	await until(() => of("watch").length === 2);
	assert.equal(of("acquire")[1].lease, "lease-1");
});

test("a broker that answers and hangs up each time is asked at growing intervals", async (t) => {
	const at = [];
	const { socket } = await fakeBroker(t, {
		watch: (_, connection) => {
			at.push(performance.now());
			connection.destroy();
			return SILENCE;
		},
	});
	await clientFor(t, { socket }).credential();
	await until(() => at.length >= 5);
	// at once, then after half at least of 50, 100 and 200 ms
	assert.ok(at[4] - at[0] > 165, at.join());
});

test("a connection that the broker refuses is made again when it says", async (t) => {
	const at = [];
	const { socket } = await fakeBroker(t, {
		acquire: (_, connection) => {
			at.push(performance.now());
			if (at.length === 1) {
				setTimeout(() => connection.destroy(), 50);
				return granted();
			}
			setImmediate(() => connection.end());
			return fail("limit_exceeded", { retry_after_ms: 500 });
		},
	});
	const client = clientFor(t, { socket });
	await client.credential();
	await until(() => at.length >= 3);
	assert.ok(at[2] - at[1] > 490, at.join());
	assert.equal(await client.apiKey()(), KEYS[1]);
});

test("a broker that was there once is waited for until the time-out", async (t) => {
	const first = await fakeBroker(t, { acquire: ({ profile }) => granted({ lease: profile, profile }) });
	const client = clientFor(t, { socket: first.socket });
	await client.credential();
	await first.stop();
	const other = client.credential("other");
	await new Promise((resolve) => setTimeout(resolve, 150));
	await fakeBroker(t, { acquire: ({ profile, lease }) => granted({ lease: profile ?? lease }) }, first.socket);
	assert.equal((await other).lease, "other");
});

test("who may not watch asks from time to time", async (t) => {
	const { socket, of } = await fakeBroker(t, { watch: () => fail("limit_exceeded") });
	const client = clientFor(t, { socket });
	await client.credential();
	await until(() => of("watch").length);
	await client.refresh(); // its answer comes behind that refusal
	const { now } = Date;
	Date.now = () => now() + 70_000;
	t.after(() => (Date.now = now));
	await until(async () => {
		await client.apiKey()();
		return of("acquire").length === 3;
	}, "the lease to be read again");
});

test("close releases, and nothing works after it", async (t) => {
	const { socket, of, connections } = await fakeBroker(t);
	const client = clientFor(t, { socket });
	await client.credential();
	await client.close();
	assert.deepEqual(of("release"), [{ lease: "lease-1" }]);
	await until(() => connections.size === 0);
	const began = performance.now();
	await assert.rejects(client.apiKey()(), { code: "lost" });
	assert.ok(performance.now() - began < 2000);
	await client.close();
});

test("close does not wait for a broker that is away", async (t) => {
	const { socket, stop } = await fakeBroker(t);
	const client = clientFor(t, { socket, timeoutMs: 20_000 });
	await client.credential();
	await stop();
	const began = performance.now();
	await client.close();
	assert.ok(performance.now() - began < 2000);
});
