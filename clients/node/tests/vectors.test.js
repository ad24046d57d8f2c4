"use strict";
// proto/vectors binds the codec of every language. The id of a request that is refused is a server's business, and not looked at.

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { test } = require("node:test");
const { encode } = require("@msgpack/msgpack");
const internal = require("./internal");

const { unpack } = internal("message");
const { walk, LIMITS } = internal("walk");

const dir = ["../vectors", "../../../proto/vectors"].map((name) => path.join(__dirname, name)).find(fs.existsSync);

/** Integers that need 64 bits are bigints: so they stay exact, and are packed as integers. */
function parse(text) {
	const exact = text.replace(/(?<=[:[,]\s*)-?\d{10,}(?=\s*[,}\]])/g, '"int $&"');
	return JSON.parse(exact, (_, value) => (/^int -?\d+$/.test(value) ? integer(BigInt(value.slice(4))) : value));
}

const integer = (big) => (big >= -(2n ** 31n) && big < 2n ** 32n ? Number(big) : big);

function messageOf({ type, id, method, params, error, result }) {
	if (type === "request") return [0, id, method, [params]];
	return type === "reply" ? [1, id, error, result] : [2, method, [params]];
}

/** As the vectors have it: absent params, or nil, read as an empty map; integers as near as numbers come. */
function meant(message) {
	const params = message.at(-1);
	const filled = Array.isArray(params) ? [...message.slice(0, -1), [params[0] ?? {}]] : message;
	return JSON.parse(JSON.stringify(filled, (_, value) => (typeof value === "bigint" ? Number(value) : value)));
}

for (const file of fs.readdirSync(dir)) {
	for (const vector of parse(fs.readFileSync(path.join(dir, file), "utf8")).vectors) {
		test(`${file}: ${vector.name}`, () => {
			const bytes = Buffer.from(vector.hex, "hex");
			const found = walk(bytes, LIMITS[vector.limits]);
			assert.equal(found.walk, vector.walk);
			assert.equal(found.length, vector.length);
			if (found.walk !== "complete") return;
			const whole = bytes.subarray(0, found.length);
			const message = unpack(whole);
			assert.deepEqual(meant(message), meant(messageOf(vector.message)));
			if ("id" in vector) assert.equal(message[1], vector.id);
			if (vector.canonical) {
				const packed = encode(messageOf(vector.message), { useBigInt64: true });
				assert.equal(Buffer.from(packed).toString("hex"), whole.toString("hex"));
			}
			for (let n = 0; n < whole.length; n++)
				assert.equal(walk(whole.subarray(0, n), LIMITS[vector.limits]).walk, "incomplete");
		});
	}
}
