"use strict";
// For a server that used to make its own LiteLLM key: the same calls, with keys from the broker.

const { inspect } = require("node:util");
const { Client } = require("./client");
const { mask } = require("./credential");

// The environment is the process's, and its two variables are one pair: a key must not get to another one's base URL.
const exporters = []; // in the order in which they came
const before = {}; // what is there without us
let shown; // the pair that is there

/** Puts the pair of the last exporter that has one into the environment, or what was there before all of them. */
function show() {
	const next = exporters.findLast(({ pair }) => pair)?.pair;
	if (next === shown) return;
	for (const name of ["OPENAI_API_KEY", "OPENAI_BASE_URL"]) {
		// somebody else set it meanwhile
		if (!shown || process.env[name] !== shown[name]) before[name] = process.env[name];
		const value = (next ?? before)[name];
		if (value === undefined) delete process.env[name];
		else process.env[name] = value;
	}
	shown = next;
}

class Exporter {
	pair; // undefined: it has no key at present

	set(credential) {
		this.pair = credential ? { OPENAI_API_KEY: credential.apiKey, OPENAI_BASE_URL: credential.baseURL } : undefined;
		if (!exporters.includes(this)) exporters.push(this);
		show();
	}

	end() {
		if (exporters.includes(this)) exporters.splice(exporters.indexOf(this), 1);
		show();
	}
}

/** What `getClient` gives: options of the OpenAI SDKs and nothing else, since they refuse or misread what they don't know. */
class ProvisionedClient {
	#key;

	constructor(credential, fetch) {
		this.#key = credential.apiKey;
		this.baseURL = credential.baseURL;
		this.fetch = fetch;
	}

	get apiKey() {
		return this.#key;
	}

	[inspect.custom](_depth, options, inspect) {
		return `ProvisionedClient ${inspect({ apiKey: mask(this.#key), ...this }, options)}`;
	}
}

function createProvisioner({ profile = "service", exportEnv = true, ...options } = {}) {
	const client = new Client(options);
	const fetch = client.fetch(profile);
	const exporter = new Exporter();
	const toClient = (credential) => new ProvisionedClient(credential, fetch);

	if (exportEnv)
		client.onCredential(profile, (credential) => {
			exporter.set(credential);
			// nobody need ask for it: the environment is read without a call of ours
			if (!credential) client.credential(profile).catch(() => {});
		});

	return {
		getClient: async () => toClient(await client.credential(profile)),
		refresh: async () => toClient(await client.refresh(profile)),
		close: async () => {
			const closed = client.close();
			exporter.end();
			await closed;
		},
	};
}

module.exports = { createProvisioner };
