"use strict";
// Messages as bytes and back. `unpack` is for bytes that the walker has found to be one whole message.

const { Decoder, Encoder } = require("@msgpack/msgpack");

const NUL = "\0";
let nKeys = 0;

// The library takes the last of two equal keys and refuses "__proto__"; by the protocol the first counts and an
// unknown one is ignored. So each key gets a number behind a NUL, which no text has, and loses it in `plain`.
const keyDecoder = {
	canBeCached: () => true,
	decode: (bytes, at, length) => Buffer.from(bytes.buffer, bytes.byteOffset + at, length).toString() + NUL + nKeys++,
};
const decoder = new Decoder({ keyDecoder });
const encoder = new Encoder({ ignoreUndefined: true });

function plain(value) {
	if (Array.isArray(value)) return value.map(plain);
	if (value === null || typeof value !== "object" || value instanceof Uint8Array) return value;
	const map = Object.create(null);
	for (const numbered of Object.keys(value)) {
		const key = numbered.slice(0, numbered.indexOf(NUL));
		if (!(key in map)) map[key] = plain(value[numbered]);
	}
	return map;
}

function unpack(bytes) {
	nKeys = 0;
	return plain(decoder.decode(bytes));
}

/** Fields that are undefined are left out. */
const packRequest = (id, method, params) => encoder.encode([0, id, method, [params]]);

module.exports = { unpack, packRequest };
