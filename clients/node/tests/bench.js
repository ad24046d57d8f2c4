"use strict";
// SECONDS: the figures of clients/README.md, "The bench". `warm` and `bare` take turns.

const net = require("node:net");
const { Client } = require("keybroker");
const { packRequest } = require("./internal")("message");
const { walk } = require("./internal")("walk");
const { findSockets } = require("./internal")("find");

function quantiles(times) {
	times.sort((a, b) => a - b);
	const at = (share) => Number((times[Math.floor((times.length - 1) * share)] * 1000).toFixed(2));
	return { p50: at(0.5), p99: at(0.99) };
}

async function timed(times, work) {
	const began = performance.now();
	await work();
	times.push(performance.now() - began);
}

async function cachedNs(client, seconds) {
	const apiKey = client.apiKey();
	const rounds = 100_000;
	let best = Infinity;
	for (const until = performance.now() + seconds * 1000; performance.now() < until; ) {
		const began = performance.now();
		for (let i = 0; i < rounds; i++) await apiKey();
		best = Math.min(best, ((performance.now() - began) * 1e6) / rounds);
	}
	return Number(best.toFixed(1));
}

/** The same request as bytes made beforehand, its reply read to its end. */
async function bareOf(lease) {
	const socket = net.connect(findSockets()[0]);
	const bytes = packRequest(1, "acquire", { lease, timeout_ms: 29_000 });
	let done;
	let rest = Buffer.alloc(0);
	socket.on("data", (chunk) => {
		rest = rest.length ? Buffer.concat([rest, chunk]) : chunk;
		if (rest.length >= length) {
			rest = Buffer.alloc(0);
			done();
		}
	});
	let length = Infinity;
	const first = new Promise((resolve) => {
		socket.once("data", (chunk) => resolve(walk(chunk).length));
	});
	socket.write(bytes);
	length = await first;
	rest = Buffer.alloc(0);
	const trip = () => new Promise((resolve) => {
		done = resolve;
		socket.write(bytes);
	});
	return { trip, end: () => socket.destroy() };
}

async function main() {
	const seconds = Number(process.argv[2]);
	const client = new Client();
	const { lease } = await client.credential();
	const bare = await bareOf(lease);
	const cached_ns = await cachedNs(client, seconds / 3);
	const warm = [];
	const plain = [];
	for (const until = performance.now() + (seconds * 2000) / 3; performance.now() < until; ) {
		await timed(plain, bare.trip);
		await timed(warm, () => client.refresh());
	}
	console.log(JSON.stringify({ cached_ns, warm_us: quantiles(warm), bare_us: quantiles(plain) }));
	bare.end();
	await client.close();
}

main();
