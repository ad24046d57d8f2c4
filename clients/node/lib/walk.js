"use strict";
// Reads the headers of one message and nothing else, so that its sizes, counts and depth are known to be within
// bounds before the MessagePack library, which allocates what a header claims, sees a byte.

const LIMITS = {
	request: { bytes: 16384, depth: 6, values: 256 },
	reply: { bytes: 65536, depth: 8, values: 4096 },
};

const [NIL, BOOL, INT, TEXT, BIN, ARRAY, MAP] = ["nil", "bool", "int", "text", "bin", "array", "map"];

// The headers 0xc0 to 0xdf: what they open, and how many bytes of size or value follow. Holes are malformed: floats, ext.
const FORMS = new Array(32);
FORMS[0x00] = [NIL, 0];
FORMS[0x02] = FORMS[0x03] = [BOOL, 0];
[0x04, 0x05, 0x06].forEach((at, i) => (FORMS[at] = [BIN, 1 << i]));
[0x0c, 0x0d, 0x0e, 0x0f].forEach((at, i) => (FORMS[at] = FORMS[at + 4] = [INT, 1 << i]));
[0x19, 0x1a, 0x1b].forEach((at, i) => (FORMS[at] = [TEXT, 1 << i]));
[0x1c, 0x1d].forEach((at, i) => (FORMS[at] = [ARRAY, 2 << i]));
[0x1e, 0x1f].forEach((at, i) => (FORMS[at] = [MAP, 2 << i]));

// The slots of a message after its type, by that type: request, reply, notification.
const SHAPES = [
	["id", "method", "params"],
	["id", "outcome", "outcome"],
	["method", "params"],
];

const FITS = {
	id: (w) => w.kind === INT && !w.negative && w.number <= 0xffffffff,
	method: (w) => w.kind === TEXT && w.number <= 32,
	params: (w) => w.kind === ARRAY && w.number <= 1,
	outcome: (w) => w.kind === NIL || w.kind === MAP,
};

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** UTF-8 without NUL. Nearly all text is ASCII, for which a plain loop is fastest. */
function isText(data, at, end) {
	let ascii = true;
	for (let i = at; i < end; i++) {
		if (data[i] === 0) return false;
		if (data[i] >= 0x80) ascii = false;
	}
	if (ascii) return true;
	try {
		utf8.decode(data.subarray(at, end));
		return true;
	} catch {
		return false;
	}
}

// A stop is thrown as the word that the walk answers.
class Walker {
	kind = NIL; // of the last header
	number = 0; // its value if an integer, else its count of bytes, elements or pairs
	negative = false;
	pos = 0;
	#data;
	#limits;
	#values = 0;
	#owed = 0; // values that the open containers still need

	constructor(data, limits) {
		this.#data = data;
		this.#limits = limits;
	}

	#need(bytes) {
		if (bytes > this.#limits.bytes - this.pos) throw "too_large";
		if (bytes > this.#data.length - this.pos) throw "incomplete";
	}

	#set(kind, number, negative = false) {
		this.kind = kind;
		this.number = number;
		this.negative = negative;
	}

	#header() {
		this.#need(1);
		const byte = this.#data[this.pos++];
		if (byte < 0x80) return this.#set(INT, byte);
		if (byte < 0x90) return this.#set(MAP, byte & 0x0f);
		if (byte < 0xa0) return this.#set(ARRAY, byte & 0x0f);
		if (byte < 0xc0) return this.#set(TEXT, byte & 0x1f);
		if (byte >= 0xe0) return this.#set(INT, 0, true);
		const form = FORMS[byte - 0xc0];
		if (!form) throw "malformed";
		const [kind, extra] = form;
		this.#need(extra);
		// 0xd0 to 0xd3 are the signed integers
		const negative = byte >= 0xd0 && byte <= 0xd3 && this.#data[this.pos] >= 0x80;
		let number = 0;
		for (let i = 0; i < extra; i++) number = number * 256 + this.#data[this.pos++];
		return this.#set(kind, number, negative);
	}

	/** Reads one header, steps over the bytes of text and bin, and holds what it claims against the limits. */
	token() {
		this.#header();
		this.#values++;
		if (this.#owed > 0) this.#owed--;
		if (this.kind === ARRAY) this.#owed += this.number;
		if (this.kind === MAP) this.#owed += 2 * this.number;
		const bytes = this.kind === TEXT || this.kind === BIN ? this.number : 0;
		// each value that is owed takes a byte at least, so a claim is refused when it is made
		if (this.#values + this.#owed > this.#limits.values) throw "too_large";
		if (bytes + this.#owed > this.#limits.bytes - this.pos) throw "too_large";
		this.#need(bytes);
		this.pos += bytes;
		if (this.kind === TEXT && !isText(this.#data, this.pos - bytes, this.pos)) throw "malformed";
	}

	/** Walks what is inside of the token just read, if anything; as a container it stands at `depth`. */
	#inside(depth) {
		if (this.kind !== ARRAY && this.kind !== MAP) return;
		if (depth > this.#limits.depth) throw "too_large";
		const isMap = this.kind === MAP;
		for (let left = this.number; left > 0; left--) {
			if (isMap) {
				this.token();
				if (this.kind !== TEXT) throw "malformed";
			}
			this.token();
			this.#inside(depth + 1);
		}
	}

	#slot(slot) {
		this.token();
		if (!FITS[slot](this)) throw "malformed";
		if (slot !== "params") return this.#inside(2);
		if (this.number === 0) return undefined;
		this.token();
		if (this.kind !== NIL && this.kind !== MAP) throw "malformed";
		return this.#inside(3);
	}

	message() {
		this.token();
		const { kind, number } = this;
		if (kind !== ARRAY || number < 3 || number > 4) throw "malformed";
		this.token();
		const shape = this.kind === INT && !this.negative ? SHAPES[this.number] : undefined;
		if (!shape || number !== shape.length + 1) throw "malformed";
		for (const slot of shape) this.#slot(slot);
	}
}

/** -> {walk: "complete", length}, or {walk: "incomplete" | "malformed" | "too_large"}. */
function walk(data, limits = LIMITS.reply) {
	const w = new Walker(data, limits);
	try {
		w.message();
		return { walk: "complete", length: w.pos };
	} catch (stop) {
		if (typeof stop !== "string") throw stop;
		return { walk: stop };
	}
}

module.exports = { walk, LIMITS };
