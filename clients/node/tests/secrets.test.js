"use strict";
// No way to print what the library hands out shows a key.

const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const { test } = require("node:test");
const util = require("node:util");
const { clientFor, fakeBroker, granted } = require("./fake");

const KEY = "sk-Zm9vYmFyYmF6cXV1eAbCd";

const ways = {
	inspect: util.inspect,
	"inspect, hidden properties too": (x) => util.inspect(x, { showHidden: true, depth: null, customInspect: false }),
	"inspect, getters too": (x) => util.inspect(x, { getters: true, depth: null, customInspect: false }),
	format: (x) => util.format("%s %o %O %j", x, x, x, x),
	JSON: (x) => JSON.stringify(x),
	text: (x) => (x instanceof Error ? x.stack : String(x)),
	"a copy": (x) => util.inspect({ ...x }),
	"a difference": (x) => {
		try {
			assert.deepStrictEqual(x, {});
		} catch (error) {
			return error.stack;
		}
	},
};

test("everything that is handed out, printed in every way", async (t) => {
	const { socket } = await fakeBroker(t, {
		acquire: ({ profile }) => {
			if (profile === "other") throw { code: "denied", message: "no" };
			return granted({ api_key: KEY });
		},
	});
	const client = clientFor(t, { socket });
	const credential = await client.credential();
	assert.equal(credential.apiKey, KEY);
	const error = await client.credential("other").catch((e) => e);
	const things = { client, credential, error, apiKey: client.apiKey(), fetch: client.fetch() };
	for (const [name, thing] of Object.entries({ ...things, things }))
		for (const [way, print] of Object.entries(ways))
			assert.ok(!String(print(thing)).includes(KEY.slice(3, 20)), `${name}: ${way}`);
	assert.match(util.inspect(credential), /apiKey: 'sk-…AbCd'/);
	assert.match(util.inspect(client), /sk-…AbCd|\[Object\]/);
});

for (const how of ["throw credential", "throw Object.assign(new Error('boom'), { client, credential })", "Promise.reject(credential)"])
	test(`a crash: ${how}`, async (t) => {
		const { socket } = await fakeBroker(t, { acquire: () => granted({ api_key: KEY }) });
		const script = `
			const client = new (require(${JSON.stringify(require.resolve("keybroker"))}).Client)({ socket: ${JSON.stringify(socket)} });
			client.credential().then((credential) => setImmediate(() => { ${how} }));`;
		const child = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "pipe"] });
		let said = "";
		for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (said += chunk));
		const code = await new Promise((resolve) => child.on("close", resolve));
		assert.notEqual(code, 0);
		assert.ok(said.length > 0 && !said.includes(KEY.slice(3, 20)), said);
	});
