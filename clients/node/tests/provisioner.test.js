"use strict";

const assert = require("node:assert/strict");
const { test } = require("node:test");
const util = require("node:util");
const { createProvisioner } = require("keybroker");
const OpenAI = require("openai");
const { KEYS, fakeBroker, granted, setEnv, until } = require("./fake");

async function start(t, options, methods) {
	setEnv(t, { OPENAI_API_KEY: "sk-what-was-there-before", OPENAI_BASE_URL: undefined });
	const state = { generation: 1, lease: "lease-1" };
	const acquire = () => granted({ ...state, api_key: KEYS[state.generation] });
	const broker = await fakeBroker(t, { acquire, ...methods });
	const provisioner = createProvisioner({ socket: broker.socket, ...options });
	t.after(() => provisioner.close());
	return { provisioner, broker, state };
}

const exported = () => [process.env.OPENAI_API_KEY, process.env.OPENAI_BASE_URL];
const BASE_URL = granted().base_url;

test("the environment has the newest key, and what was there before in the end", async (t) => {
	const { provisioner, broker, state } = await start(t);
	assert.equal(process.env.OPENAI_API_KEY, "sk-what-was-there-before");
	const { apiKey, baseURL } = await provisioner.getClient();
	assert.deepEqual([apiKey, baseURL], [KEYS[1], BASE_URL]);
	assert.deepEqual(exported(), [KEYS[1], BASE_URL]);
	await until(() => broker.of("watch").length);
	state.generation = 2;
	broker.notify("rotated", { lease: "lease-1", profile: "service", generation: 2 });
	await until(() => process.env.OPENAI_API_KEY === KEYS[2]);
	state.generation = 3;
	assert.equal((await provisioner.refresh()).apiKey, KEYS[3]);
	assert.deepEqual(exported(), [KEYS[3], BASE_URL]);
	Object.assign(state, { generation: 4, lease: "lease-2" });
	broker.notify("revoked", { lease: "lease-1" });
	await until(() => process.env.OPENAI_API_KEY === KEYS[4], "a key after a revocation, though nobody asks");
	await provisioner.close();
	assert.deepEqual(exported(), ["sk-what-was-there-before", undefined]);
	assert.deepEqual(broker.of("release"), [{ lease: "lease-2" }]);
});

const fail = (code, more) => {
	throw { code, message: "not now", ...more };
};

for (const [what, times] of Object.entries({
	"has a time to be read again": () => ({ refresh_at_ms: Date.now() + 1, expires_at_ms: Date.now() + 50 }),
	"has none": () => ({ expires_at_ms: Date.now() + 50 }),
}))
	test(`a key that expired while there was no other is replaced, though nobody asks; it ${what}`, async (t) => {
		let n = 0;
		const acquire = () => {
			if (++n === 2) fail("upstream_unavailable", { retry_after_ms: 20 });
			return granted(n === 1 ? times() : { api_key: KEYS[2] });
		};
		const { provisioner } = await start(t, {}, { acquire });
		await provisioner.getClient();
		await until(() => process.env.OPENAI_API_KEY === KEYS[2]);
	});

test("a revoked key is replaced, though the broker has no other at once", async (t) => {
	let n = 0;
	const acquire = () => {
		if (++n === 2) fail("upstream_unavailable", { retry_after_ms: 20 });
		return granted({ lease: `lease-${n}`, api_key: KEYS[n] });
	};
	const { provisioner, broker } = await start(t, {}, { acquire });
	await provisioner.getClient();
	await until(() => broker.of("watch").length);
	broker.notify("revoked", { lease: "lease-1" });
	await until(() => process.env.OPENAI_API_KEY === KEYS[3]);
});

test("a denial is not asked about again, until somebody does", async (t) => {
	let denied = false;
	const acquire = () => (denied ? fail("denied") : granted());
	const { provisioner, broker } = await start(t, {}, { acquire });
	await provisioner.getClient();
	await until(() => broker.of("watch").length);
	denied = true;
	broker.notify("revoked", { lease: "lease-1" });
	await until(() => broker.of("acquire").length === 2);
	denied = false;
	await new Promise((resolve) => setTimeout(resolve, 150));
	assert.equal(broker.of("acquire").length, 2);
	assert.deepEqual(exported(), ["sk-what-was-there-before", undefined]);
	assert.equal((await provisioner.getClient()).apiKey, KEYS[1]);
	assert.deepEqual(exported(), [KEYS[1], BASE_URL]);
});

test("what somebody else set meanwhile stays", async (t) => {
	const { provisioner } = await start(t);
	await provisioner.getClient();
	process.env.OPENAI_API_KEY = "sk-set-by-somebody-else";
	await provisioner.close();
	assert.deepEqual(exported(), ["sk-set-by-somebody-else", undefined]);
});

test("what somebody else set, and a rotation took the place of, comes back too", async (t) => {
	const { provisioner, state } = await start(t);
	await provisioner.getClient();
	process.env.OPENAI_API_KEY = "sk-set-by-somebody-else";
	state.generation = 2;
	await provisioner.refresh();
	assert.deepEqual(exported(), [KEYS[2], BASE_URL]);
	await provisioner.close();
	assert.deepEqual(exported(), ["sk-set-by-somebody-else", undefined]);
});

/** Two provisioners; the second has keys of its own, and `url`. */
async function two(t, url) {
	const first = await start(t);
	process.env.OPENAI_BASE_URL = "http://before/v1";
	const state = { generation: 5 };
	const broker = await fakeBroker(t, { acquire: () => granted({ ...state, api_key: KEYS[state.generation], base_url: url }) });
	const second = createProvisioner({ socket: broker.socket });
	t.after(() => second.close());
	await first.provisioner.getClient();
	await second.getClient();
	assert.deepEqual(exported(), [KEYS[5], url]);
	return { first: first.provisioner, firstState: first.state, second, state, broker };
}

const BEFORE = ["sk-what-was-there-before", "http://before/v1"];

for (const url of [BASE_URL, "http://127.0.0.1:2/v1"]) {
	test(`of two provisioners the first is closed first; ${url}`, async (t) => {
		const { first, second } = await two(t, url);
		await first.close();
		assert.deepEqual(exported(), [KEYS[5], url]);
		await second.close();
		assert.deepEqual(exported(), BEFORE);
	});

	test(`of two provisioners the second is closed first; ${url}`, async (t) => {
		const { first, second } = await two(t, url);
		await second.close();
		assert.deepEqual(exported(), [KEYS[1], BASE_URL]);
		await first.close();
		assert.deepEqual(exported(), BEFORE);
	});

	test(`of two provisioners each has a new key, and the second's is shown; ${url}`, async (t) => {
		const { first, firstState, second, state, broker } = await two(t, url);
		firstState.generation = 2;
		await first.refresh();
		assert.deepEqual(exported(), [KEYS[5], url]);
		state.generation = 6;
		await second.refresh();
		assert.deepEqual(exported(), [KEYS[6], url]);
		// there is nothing of the second until it has acquired anew
		await until(() => broker.of("watch").length);
		let acquired;
		state.generation = 7;
		state.lease = "lease-2";
		const seen = new Promise((resolve) => (acquired = resolve));
		Object.defineProperty(state, "mode", { enumerable: true, get: () => (acquired(exported()), "shared") });
		broker.notify("revoked", { lease: "lease-1" });
		assert.deepEqual(await seen, [KEYS[2], BASE_URL]);
		await until(() => process.env.OPENAI_API_KEY === KEYS[7]);
		assert.equal(process.env.OPENAI_BASE_URL, url);
		await second.close();
		await first.close();
		assert.deepEqual(exported(), BEFORE);
	});
}

test("what was unset meanwhile is not brought back by a later one", async (t) => {
	const { provisioner, broker } = await start(t);
	await provisioner.getClient();
	await provisioner.close();
	delete process.env.OPENAI_API_KEY;
	const later = createProvisioner({ socket: broker.socket });
	await later.getClient();
	await later.close();
	assert.deepEqual(exported(), [undefined, undefined]);
});

test("exportEnv: false", async (t) => {
	const { provisioner } = await start(t, { exportEnv: false });
	assert.equal((await provisioner.getClient()).apiKey, KEYS[1]);
	assert.deepEqual(exported(), ["sk-what-was-there-before", undefined]);
});

test("it is the options of the SDK", async (t) => {
	const { provisioner } = await start(t);
	const options = await provisioner.getClient();
	const openai = new OpenAI(options);
	assert.deepEqual([openai.apiKey, openai.baseURL], [KEYS[1], BASE_URL]);
	const shown = [util.inspect(options, { showHidden: true, getters: true }), JSON.stringify(options), util.inspect(provisioner)];
	assert.ok(!shown.join().includes(KEYS[1]), shown.join());
});

test("another profile", async (t) => {
	const { provisioner, broker } = await start(t, { profile: "batch" });
	await provisioner.getClient();
	assert.equal(broker.of("acquire")[0].profile, "batch");
});
