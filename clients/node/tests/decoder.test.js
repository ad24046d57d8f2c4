"use strict";
// What any server may send: the walker has an answer for all of it, and what it lets through is read without a fault.

const assert = require("node:assert/strict");
const { test } = require("node:test");
const fc = require("fast-check");
const { encode } = require("@msgpack/msgpack");
const internal = require("./internal");

const { unpack } = internal("message");
const { walk, LIMITS } = internal("walk");

const text = fc.string({ unit: "binary" }).filter((s) => !s.includes("\0"));
const { value } = fc.letrec((tie) => ({
	value: fc.oneof(
		{ maxDepth: 4 },
		text,
		fc.constant(null),
		fc.boolean(),
		fc.maxSafeInteger(),
		fc.uint8Array(),
		fc.array(tie("value"), { maxLength: 4 }),
		fc.dictionary(text, tie("value"), { maxKeys: 4, noNullPrototype: true }),
	),
}));
const map = fc.dictionary(
	text.filter((key) => key !== "__proto__"),
	value,
	{ maxKeys: 6, noNullPrototype: true },
);
const reply = fc
	.tuple(fc.nat(2 ** 31), map, fc.boolean())
	.map(([id, outcome, good]) => (good ? [1, id, null, outcome] : [1, id, outcome, null]));

/** Holds for whatever bytes. */
function check(bytes) {
	const found = walk(bytes);
	assert.ok(["complete", "incomplete", "malformed", "too_large"].includes(found.walk));
	if (found.walk !== "complete") return;
	assert.ok(found.length <= bytes.length && found.length <= LIMITS.reply.bytes);
	assert.ok(Array.isArray(unpack(bytes.subarray(0, found.length))));
	assert.equal(walk(bytes.subarray(0, found.length - 1)).walk, "incomplete");
}

test("whatever the bytes are", () => {
	fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), check), { numRuns: 3000 });
});

test("a good reply with some bytes changed", () => {
	const changes = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 });
	fc.assert(
		fc.property(reply, changes, (message, all) => {
			const bytes = encode(message);
			for (const [at, byte] of all) bytes[at % bytes.length] = byte;
			check(bytes);
		}),
		{ numRuns: 3000 },
	);
});

test("a good reply is read as it was meant, whatever follows it", () => {
	fc.assert(
		fc.property(reply, fc.uint8Array({ maxLength: 20 }), (message, more) => {
			const bytes = encode(message);
			assert.deepEqual(walk(Buffer.concat([bytes, more])), { walk: "complete", length: bytes.length });
			const plain = (m) => JSON.stringify(m, (_, v) => (v instanceof Uint8Array ? [...v] : v));
			assert.equal(plain(unpack(bytes)), plain(message));
		}),
		{ numRuns: 1000 },
	);
});

const hex = (string) => Buffer.from(string.replace(/ /g, ""), "hex");

test("of two equal keys the first counts", () => {
	assert.equal(unpack(hex("94 01 01 c0 82 a16101 a16102"))[3].a, 1);
});

test("__proto__ is a field like any other", () => {
	const result = unpack(Buffer.concat([hex("94 01 01 c0 81 a9"), Buffer.from("__proto__"), hex("81 a16101")]))[3];
	assert.equal(result.a, undefined);
	assert.deepEqual(Object.keys(result), ["__proto__"]);
});

for (const [what, bytes] of [
	["NUL", "a3 610062"],
	["an overlong form", "a2 c0af"],
	["a surrogate", "a3 eda080"],
	["a character that is cut off", "a2 61c3"],
])
	test(`text with ${what} is malformed`, () => {
		assert.equal(walk(hex(`94 01 01 c0 81 a161 ${bytes}`)).walk, "malformed");
	});
