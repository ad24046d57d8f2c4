"use strict";
// The transport: who is given the key, and what a 401 leads to.

const assert = require("node:assert/strict");
const http = require("node:http");
const { test } = require("node:test");
const { KEYS, SILENCE, clientFor, fakeBroker, granted, until } = require("./fake");

/** An HTTP server that honours the keys in `good`. -> {origin, calls, good} */
async function upstream(t, answer = () => {}) {
	const calls = [];
	const good = new Set([KEYS[1]]);
	const server = http.createServer(async (request, response) => {
		let body = "";
		for await (const chunk of request) body += chunk;
		const key = request.headers.authorization?.replace("Bearer ", "");
		calls.push({ key, body, url: request.url, headers: request.headers });
		if (answer(request, response)) return;
		response.writeHead(good.has(key) ? 200 : 401).end(good.has(key) ? "fine" : "no");
	});
	await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
	t.after(() => {
		server.closeAllConnections();
		server.close();
	});
	return { origin: `http://127.0.0.1:${server.address().port}`, calls, good };
}

/** A broker whose key is replaced, here and upstream, once it is reported. */
async function both(t, { state = "dead", answer, ...methods } = {}) {
	const llm = await upstream(t, answer);
	let generation = 1;
	const grant = () => granted({ generation, api_key: KEYS[generation], base_url: `${llm.origin}/v1` });
	const broker = await fakeBroker(t, {
		acquire: grant,
		report: ({ lease }) => {
			if (state === "dead") llm.good.add(KEYS[++generation]);
			return { lease, state };
		},
		...methods,
	});
	const client = clientFor(t, { socket: broker.socket });
	return { ...llm, broker, client, fetch: client.fetch(), url: `${llm.origin}/v1/chat/completions` };
}

const post = (body, more) => ({ method: "POST", body, ...more });

test("sets the key, in place of what the SDK has put there", async (t) => {
	const { fetch, url, calls } = await both(t);
	const response = await fetch(url, post("hello", { headers: { authorization: "Bearer other", "x-more": "1" } }));
	assert.equal(await response.text(), "fine");
	assert.deepEqual([calls[0].key, calls[0].body, calls[0].headers["x-more"]], [KEYS[1], "hello", "1"]);
});

for (const [what, make] of Object.entries({
	"a URL": (url) => [new URL(url), post("hello")],
	"a Request": (url) => [new Request(url, { headers: { "x-more": "1" } })],
	"a Request and options": (url) => [new Request(url), post("hello", { headers: { "x-more": "1" } })],
	bytes: (url) => [url, post(Buffer.from("hello"))],
	"a form": (url) => [url, post(new URLSearchParams({ a: "b" }))],
}))
	test(`a 401 is reported, and the request sent again with the new key: ${what}`, async (t) => {
		const { fetch, url, calls, good, broker } = await both(t);
		good.clear();
		assert.equal((await fetch(...make(url))).status, 200);
		assert.deepEqual(calls.map(({ key }) => key), [KEYS[1], KEYS[2]]);
		assert.equal(calls[0].body, calls[1].body);
		assert.equal(calls[0].headers["x-more"], calls[1].headers["x-more"]);
		assert.deepEqual(broker.of("report"), [{ lease: "lease-1", status: 401 }]);
	});

test("many that get 401 with one key at the same time make one report", async (t) => {
	const { fetch, url, calls, good, broker } = await both(t);
	good.clear();
	const all = await Promise.all(Array.from({ length: 20 }, (_, i) => fetch(url, post(String(i)))));
	assert.ok(all.every(({ status }) => status === 200));
	assert.equal(broker.of("report").length, 1);
	assert.equal(calls.length, 40);
});

test("no other key: the 401 is the caller's", async (t) => {
	const { fetch, url, calls, good, broker } = await both(t, { state: "alive" });
	good.clear();
	const response = await fetch(url, post("hello"));
	assert.deepEqual([response.status, await response.text()], [401, "no"]);
	assert.deepEqual([calls.length, broker.of("report").length], [1, 1]);
});

test("the second answer is the caller's, whatever it is", async (t) => {
	const { fetch, url, calls, broker } = await both(t, {
		answer: (_, response) => response.writeHead(401).end("never"),
	});
	assert.equal((await fetch(url, post("hello"))).status, 401);
	assert.deepEqual([calls.length, broker.of("report").length], [2, 1]);
});

test("a key that was replaced meanwhile is not reported", async (t) => {
	const llm = await upstream(t, (_, response) => {
		if (llm.calls.length > 1) return false;
		// the answer waits until the client has the new key
		client.refresh().then(() => response.writeHead(401).end());
		return true;
	});
	llm.good.add(KEYS[2]);
	let n = 0;
	const { socket, of } = await fakeBroker(t, { acquire: () => granted({ api_key: KEYS[++n], base_url: llm.origin }) });
	const client = clientFor(t, { socket });
	assert.equal((await client.fetch()(llm.origin)).status, 200);
	assert.deepEqual(llm.calls.map(({ key }) => key), [KEYS[1], KEYS[2]]);
	assert.equal(of("report").length, 0);
});

test("a broker that cannot be asked: the 401 is the caller's", async (t) => {
	const { fetch, url, good, broker } = await both(t, {
		report: () => {
			throw { code: "internal", message: "no" };
		},
	});
	good.clear();
	assert.equal((await fetch(url, post("hello"))).status, 401);
	assert.equal(broker.of("report").length, 1);
});

test("the lease has ended: acquired anew", async (t) => {
	let n = 0;
	const llm = await upstream(t);
	llm.good.clear();
	llm.good.add(KEYS[2]);
	const { socket } = await fakeBroker(t, {
		acquire: ({ lease }) => granted({ lease: lease ?? `lease-${++n}`, api_key: KEYS[n], base_url: llm.origin }),
		report: () => {
			throw { code: "unknown_lease", message: "no" };
		},
	});
	assert.equal((await clientFor(t, { socket }).fetch()(llm.origin, post("hello"))).status, 200);
	assert.equal(n, 2);
});

for (const [what, make] of Object.entries({
	"a stream": (url) => [url, post(new Blob(["hello"]).stream(), { duplex: "half" })],
	"an iterator": (url) => [url, post((async function* () { yield Buffer.from("hello"); })(), { duplex: "half" })],
	"a Request's": (url) => [new Request(url, post("hello"))],
}))
	test(`a body that cannot be read again is sent once, and the 401 reported all the same: ${what}`, async (t) => {
		const { fetch, url, calls, good, broker } = await both(t);
		good.clear();
		const response = await fetch(...make(url));
		assert.deepEqual([response.status, await response.text()], [401, "no"]);
		assert.deepEqual(calls.map(({ body }) => body), ["hello"]);
		assert.equal(broker.of("report").length, 1);
	});

test("the key goes to the base URL's origin and to no other", async (t) => {
	const other = await upstream(t);
	const { fetch, client, broker } = await both(t);
	assert.equal((await fetch(other.origin)).status, 401);
	// an SDK with another base URL puts the key there itself
	await fetch(other.origin, { headers: { authorization: `Bearer ${await client.apiKey()()}` } });
	await fetch(other.origin, { headers: { authorization: "Bearer theirs" } });
	assert.deepEqual(other.calls.map(({ key }) => key), [undefined, undefined, "theirs"]);
	assert.equal(broker.of("report").length, 0);
});

for (const status of [302, 307, 308])
	test(`nor does a redirect (${status}) take it there`, async (t) => {
		const other = await upstream(t);
		const { fetch, url, calls, broker } = await both(t, {
			answer: (_, response) => response.writeHead(status, { location: `${other.origin}/elsewhere` }).end(),
		});
		assert.equal((await fetch(url, post("hello"))).status, 401);
		assert.equal(calls[0].key, KEYS[1]);
		assert.deepEqual(other.calls.map(({ key }) => key), [undefined]);
		assert.equal(broker.of("report").length, 0);
	});

test("an abort ends the wait for the broker", async (t) => {
	const { fetch, url, broker, good } = await both(t, { report: () => new Promise(() => {}) });
	good.clear();
	const controller = new AbortController();
	const call = fetch(url, post("hello", { signal: controller.signal }));
	await until(() => broker.of("report").length);
	controller.abort(new Error("enough"));
	await assert.rejects(call, { message: "enough" });

	const silent = await fakeBroker(t, { acquire: () => SILENCE });
	const signal = AbortSignal.abort(new Error("already"));
	const other = clientFor(t, { socket: silent.socket, timeoutMs: 1000 });
	await assert.rejects(other.fetch()(url, { signal }), { message: "already" });
});
