"use strict";

const assert = require("node:assert/strict");
const { test } = require("node:test");
const util = require("node:util");
const { createProvisioner } = require("keybroker");
const OpenAI = require("openai");
const { KEYS, fakeBroker, granted, setEnv, until } = require("./fake");

async function start(t, options) {
	setEnv(t, { OPENAI_API_KEY: "sk-what-was-there-before", OPENAI_BASE_URL: undefined });
	const state = { generation: 1, lease: "lease-1" };
	const acquire = () => granted({ ...state, api_key: KEYS[state.generation] });
	const broker = await fakeBroker(t, { acquire });
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

test("what somebody else set meanwhile stays", async (t) => {
	const { provisioner } = await start(t);
	await provisioner.getClient();
	process.env.OPENAI_API_KEY = "sk-set-by-somebody-else";
	await provisioner.close();
	assert.deepEqual(exported(), ["sk-set-by-somebody-else", undefined]);
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
