"use strict";
// What a profile gives: a key and where to use it. The key is no property of the object, so that nothing that prints
// or copies an object's properties shows it.

const { inspect } = require("node:util");
const { KeybrokerError } = require("./errors");

const DEFAULT_BASE_URL = "https://api.openai.com/v1";

/** `sk-…AbCd`: enough to tell keys apart. */
function mask(key) {
	return key.length < 16 ? "…" : `${key.startsWith("sk-") ? "sk-" : ""}…${key.slice(-4)}`;
}

class Credential {
	#key;
	/** What the SDKs are handed on each call; made once, so that a call costs next to nothing. */
	#promise;

	constructor(key, fields) {
		this.#key = key;
		this.#promise = Promise.resolve(key);
		Object.assign(this, fields);
		Object.freeze(this);
	}

	get apiKey() {
		return this.#key;
	}

	static promiseOf(credential) {
		return credential.#promise;
	}

	[inspect.custom](_depth, options, inspect) {
		return `Credential ${inspect({ apiKey: mask(this.#key), ...this }, options)}`;
	}
}

const isText = (value) => typeof value === "string";
const isTime = (value) => value == null || Number.isSafeInteger(value);

function isUrl(text) {
	try {
		return /^https?:$/.test(new URL(text).protocol);
	} catch {
		return false;
	}
}

/** Whether it can stand in a header: what cannot would be shown by the error of who tries. */
const isKey = (text) => isText(text) && /^[\x21-\x7e]+$/.test(text);

/** The credential of an answer to `acquire`; what does not look like one is `garbage`. */
function credentialOf(r, profile, socket) {
	const good =
		isText(r.lease) && isKey(r.api_key) && isUrl(r.base_url) && isText(r.mode) && Number.isSafeInteger(r.generation) &&
		isTime(r.expires_at_ms) && isTime(r.refresh_at_ms) && Array.isArray(r.models ?? []);
	if (!good) throw new KeybrokerError("garbage", `${socket}: its answer to acquire makes no sense.`, { socket });
	return new Credential(r.api_key, {
		profile,
		lease: r.lease,
		mode: r.mode,
		baseURL: r.base_url,
		models: (r.models ?? []).filter(isText),
		generation: r.generation,
		expiresAtMs: r.expires_at_ms ?? null,
		refreshAtMs: r.refresh_at_ms ?? null,
	});
}

/** The credential of OPENAI_API_KEY, for who has no broker; undefined if that is not set, or forbidden. */
function credentialOfEnvironment(env, profile) {
	const key = env.OPENAI_API_KEY?.trim();
	if (!isKey(key) || !["", "0", undefined].includes(env.KEYBROKER_REQUIRED)) return undefined;
	return new Credential(key, {
		profile,
		lease: "",
		mode: "environment",
		baseURL: env.OPENAI_BASE_URL?.trim() || DEFAULT_BASE_URL,
		models: [],
		generation: 0,
		expiresAtMs: null,
		refreshAtMs: null,
	});
}

module.exports = { Credential, credentialOf, credentialOfEnvironment, mask };
