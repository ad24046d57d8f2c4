"use strict";
// What serves the socket may be anything: a typed error, within the time-out.

const assert = require("node:assert/strict");
const { test } = require("node:test");
const { encode } = require("@msgpack/msgpack");
const { KeybrokerError } = require("keybroker");
const { SILENCE, clientFor, fakeBroker, granted, listen, setEnv, until } = require("./fake");

const TIMEOUT_MS = 400;
const reply = (result) => Buffer.from(encode([1, 1, null, result]));

function bitByBit(connection, bytes) {
	let at = 0;
	const timer = setInterval(() => connection.write(bytes.subarray(at % bytes.length, (at++ % bytes.length) + 1)), 20);
	connection.on("close", () => clearInterval(timer));
}

const servers = {
	"one that says nothing": ["timeout", () => {}],
	"one that hangs up": ["lost", (c) => c.destroy()],
	"a web server": ["garbage", (c) => c.on("data", () => c.write("HTTP/1.1 400 Bad Request\r\n\r\n"))],
	"one that speaks first, and another protocol": ["garbage", (c) => c.write("220 mail.example.org ESMTP\r\n")],
	"an answer that claims 4 GiB": ["garbage", (c) => c.write(Buffer.from("940101c0dbffffffff", "hex"))],
	"a nesting bomb": ["garbage", (c) => c.write(Buffer.alloc(9, 0x91))],
	"a request": ["garbage", (c) => c.write(encode([0, 99, "hello", []]))],
	"an answer that is cut off": ["timeout", (c) => c.write(reply(granted()).subarray(0, 40))],
	"an answer that is cut off by the end": ["lost", (c) => c.on("data", () => c.end(reply(granted()).subarray(0, 40)))],
	"one byte after the other, without an end": ["timeout", (c) => bitByBit(c, reply({ text: "x".repeat(1000) }))],
	"answers to what nobody asked": ["timeout", (c) => c.write(encode([1, 77, null, granted()]))],
	"neither a result nor an error": ["garbage", (c) => c.on("data", () => c.write(encode([1, 1, null, null])))],
	"both a result and an error": ["garbage", (c) => c.on("data", () => c.write(encode([1, 1, { code: "denied" }, granted()])))],
	"no key": ["garbage", (c) => c.on("data", () => c.write(reply(granted({ api_key: undefined }))))],
	"a key that no header can have": ["garbage", (c) => c.on("data", () => c.write(reply(granted({ api_key: "sk-a\nb" }))))],
	"a base URL that is none": ["garbage", (c) => c.on("data", () => c.write(reply(granted({ base_url: "file:///etc" }))))],
	"a lease that is no text": ["garbage", (c) => c.on("data", () => c.write(reply(granted({ lease: 5 }))))],
	"an error without a word": ["internal", (c) => c.on("data", () => c.write(encode([1, 1, {}, null])))],
	"an error with an unknown code": ["internal", (c) => c.on("data", () => c.write(encode([1, 1, { code: "timeout" }, null])))],
};

for (const [what, [code, serve]] of Object.entries(servers))
	test(what, async (t) => {
		setEnv(t, { OPENAI_API_KEY: "sk-never-a-reason-to-fall-back" });
		const { socket } = await listen(t, serve);
		const began = performance.now();
		const error = await clientFor(t, { socket, timeoutMs: TIMEOUT_MS })
			.credential()
			.catch((e) => e);
		const took = performance.now() - began;
		assert.ok(error instanceof KeybrokerError, String(error));
		assert.equal(error.code, code);
		assert.equal(error.socket, socket);
		assert.ok(error.message.includes(socket) && error.advice, error.message);
		assert.ok(took < TIMEOUT_MS + 300, `took ${took} ms`);
	});

test("one byte after the other, but in time", async (t) => {
	const { socket } = await listen(t, (connection) => connection.once("data", () => {
		let wait = 0;
		for (const byte of reply(granted())) setTimeout(() => connection.write(Buffer.of(byte)), wait++ / 2);
	}));
	assert.equal((await clientFor(t, { socket }).credential()).generation, 1);
});

test("a late answer is not taken for another one's", async (t) => {
	let n = 0;
	const { socket } = await fakeBroker(t, {
		acquire: async ({ profile }) => {
			if (n++ === 0) await new Promise((resolve) => setTimeout(resolve, 300));
			return granted({ lease: profile, profile });
		},
	});
	const client = clientFor(t, { socket, timeoutMs: 200 });
	await assert.rejects(client.credential("late"), { code: "timeout" });
	assert.equal((await client.credential("other")).lease, "other");
	await new Promise((resolve) => setTimeout(resolve, 200));
	assert.equal((await client.credential("other")).lease, "other");
});

test("one that is silent later: the key in memory is served on", async (t) => {
	let silent = false;
	const { socket, connections } = await fakeBroker(t, { acquire: () => (silent ? SILENCE : granted()) });
	const client = clientFor(t, { socket, timeoutMs: 200 });
	const key = await client.apiKey()();
	const [first] = connections;
	silent = true;
	await assert.rejects(client.refresh(), { code: "timeout" });
	await until(() => first.destroyed, "that connection's end");
	assert.equal(await client.apiKey()(), key);
});
